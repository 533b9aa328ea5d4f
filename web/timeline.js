/** The timeline of the chosen take: its ruler, sections, waveform and playhead. */

import * as deck from "./deck.js";
import { clock, t } from "./i18n.js";
import * as player from "./player.js";
import { sectionsOf, textOf } from "./sections.js";
import { create, ui } from "./ui.js";
import { createWaveform } from "./waveform.js";

const LABEL_WIDTH = 72; // pixels between the ruler's numbers, at least
const RULER_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800]; // seconds

const context = ui.wave.getContext("2d");
const drawWaveform = createWaveform(context);
let dragPosition = null; // seconds, while the user drags the handle
let lastState = "";

/** The second of the chosen take that the playhead shows. */
export function position() {
  if (dragPosition !== null) return dragPosition;
  return deck.chosen && deck.chosen === deck.current ? player.position() : 0;
}

/** Renders the sections of the chosen take. */
export function render() {
  const sections = deck.chosen ? sectionsOf(deck.chosen.record) : [];
  ui.blocks.replaceChildren(...sections.map(createBlock));
  lastState = "";
}

/** Draws what changes while a song plays and arrives. */
export function draw() {
  const { chosen } = deck;
  const duration = chosen?.duration ?? 0;
  const at = position();
  Object.assign(ui.position, {
    max: duration,
    value: at,
    ariaValueText: t("{time} of {duration}", { time: clock(at), duration: clock(duration) }),
  });
  ui.playhead.style.left = `${(100 * at) / duration}%`;
  drawCanvas(chosen, duration, at);
}

function createBlock({ prompt, duration }) {
  const text = textOf(prompt);
  const block = create("span", { className: "block", textContent: text, title: text });
  block.style.flexGrow = duration;
  return block;
}

function drawCanvas(take, duration, at) {
  const { wave, scroller, surface } = ui;
  const from = (scroller.scrollLeft / ui.track.clientWidth) * duration;
  const to = from + (scroller.clientWidth / ui.track.clientWidth) * duration;
  const [width, height] = [scroller.clientWidth, ui.track.clientHeight].map(toDevice);
  const { color } = getComputedStyle(wave);
  const played = Math.round((at / duration) * ui.track.clientWidth * devicePixelRatio);
  const frames = take?.sound?.frames ?? 0;
  const state = [take?.record.id, frames, from, to, width, height, color, played].join();
  if (state === lastState) return;
  lastState = state;
  Object.assign(wave, { width, height }); // This clears it.
  context.fillStyle = color;
  if (!duration) return;
  drawRuler(from, to);
  drawWaveform({
    sound: take.sound,
    from,
    to,
    top: toDevice(surface.offsetTop),
    height: toDevice(surface.clientHeight),
    played: at,
  });
}

function drawRuler(from, to) {
  const scale = ui.wave.width / (to - from);
  const wanted = toDevice(LABEL_WIDTH) / scale;
  const step = RULER_STEPS.find((seconds) => seconds >= wanted) ?? RULER_STEPS.at(-1);
  const height = toDevice(ui.position.clientHeight);
  context.font = `${toDevice(12)}px system-ui, sans-serif`;
  for (let second = Math.ceil(from / step) * step; second < to; second += step / 5) {
    const x = Math.round((second - from) * scale);
    const isNumbered = Math.abs(second / step - Math.round(second / step)) < 0.01;
    context.globalAlpha = isNumbered ? 0.75 : 0.35;
    const length = toDevice(isNumbered ? 10 : 5);
    context.fillRect(x, height - length, devicePixelRatio, length);
    if (isNumbered)
      context.fillText(clock(Math.round(second)), x + toDevice(4), height - toDevice(9));
  }
}

function toDevice(pixels) {
  return Math.round(pixels * devicePixelRatio);
}

/** Ends a drag and moves to a position, if one is given. */
function release(second) {
  dragPosition = null;
  if (second !== null) deck.seek(second);
}

ui.position.addEventListener("input", () => {
  dragPosition = ui.position.valueAsNumber;
});
ui.position.addEventListener("change", () => release(dragPosition));
// The browser sends pointercancel when the touch scrolls the page.
ui.position.addEventListener("pointercancel", () => release(null));
ui.position.addEventListener("pointerup", ({ pointerType, offsetX }) => {
  // iPhones send no input event after a touch.
  const isTouch = pointerType !== "mouse";
  const touched = (offsetX / ui.position.clientWidth) * (deck.chosen?.duration ?? 0);
  release(dragPosition ?? (isTouch ? touched : null));
});
ui.surface.addEventListener("click", ({ offsetX }) => {
  if (deck.chosen) deck.seek((offsetX / ui.surface.clientWidth) * deck.chosen.duration);
});
