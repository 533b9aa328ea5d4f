/** The timeline of the chosen take: its ruler, waveform, playhead and zoom. */

import { secondsPerPixel, span } from "./blocks.js";
import * as deck from "./deck.js";
import { clock, timeOf } from "./i18n.js";
import * as loop from "./loop.js";
import * as player from "./player.js";
import { clamp, onClick, ui, update } from "./ui.js";
import { createWaveform } from "./waveform.js";

const LABEL_WIDTH = 72; // pixels between the ruler's numbers, at least
const RULER_STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800]; // seconds
const MIN_SPAN = 2; // seconds that are shown at least

const context = ui.wave.getContext("2d");
const drawWaveform = createWaveform(context);
let zoom = 1;
let dragPosition = null; // seconds, while the user drags the handle
let lastState = "";

export function position() {
  return dragPosition ?? deck.positionOf(deck.chosen);
}

export function draw() {
  const { chosen } = deck;
  const seconds = span();
  const at = position();
  update(ui.position, {
    max: seconds,
    value: at,
    ariaValueText: timeOf(clock(at), chosen?.duration ?? 0),
  });
  update(ui.playhead.style, { left: `${(100 * at) / seconds}%` });
  if (player.state === "playing" && chosen === deck.current) follow(at / secondsPerPixel());
  loop.draw(seconds);
  drawCanvas(chosen, seconds, at);
}

function follow(x) {
  const { scrollLeft, clientWidth } = ui.scroller;
  if (x < scrollLeft || x > scrollLeft + clientWidth) ui.scroller.scrollLeft = x;
}

function zoomBy(factor) {
  zoom = clamp(zoom * factor, 1, Math.max(1, span() / MIN_SPAN));
  ui.track.style.width = `${100 * zoom}%`;
  ui.scroller.scrollLeft = position() / secondsPerPixel() - ui.scroller.clientWidth / 2;
}

function drawCanvas(take, duration, at) {
  const { wave, scroller, surface } = ui;
  const from = scroller.scrollLeft * secondsPerPixel();
  const to = from + scroller.clientWidth * secondsPerPixel();
  const [width, height] = [scroller.clientWidth, ui.track.clientHeight].map(toDevice);
  const { color } = getComputedStyle(wave);
  const played = toDevice(at / secondsPerPixel());
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
  const step = RULER_STEPS.find((seconds) => seconds >= wanted);
  const height = toDevice(ui.position.clientHeight);
  context.font = `${toDevice(12)}px system-ui, sans-serif`;
  for (let second = Math.ceil(from / step) * step; second < to; second += step / 5) {
    const x = Math.round((second - from) * scale);
    const isNumbered = Math.abs(second / step - Math.round(second / step)) < 0.01;
    context.globalAlpha = isNumbered ? 0.75 : 0.35;
    const length = toDevice(isNumbered ? 10 : 5);
    context.fillRect(x, height - length, devicePixelRatio, length);
    if (isNumbered) context.fillText(labelOf(second, step), x + toDevice(4), height - toDevice(9));
  }
}

function labelOf(second, step) {
  return step < 1 ? second.toFixed(1) : clock(Math.round(second));
}

function toDevice(pixels) {
  return Math.round(pixels * devicePixelRatio);
}

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
  release(dragPosition ?? (isTouch ? offsetX * secondsPerPixel() : null));
});
ui.scroller.addEventListener(
  "wheel",
  (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoomBy(2 ** (-event.deltaY / 200));
  },
  { passive: false },
);
onClick({ closer: () => zoomBy(2), farther: () => zoomBy(0.5) });
