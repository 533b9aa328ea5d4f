/** Steering: words on a field, sliders or a line of text change a song while it plays. */

import * as deck from "./deck.js";
import { t } from "./i18n.js";
import { errorText } from "./refusals.js";
import { position } from "./timeline.js";
import { clamp, create, load, pause, save, setText, ui } from "./ui.js";

const PLACES = [
  [0.2, 0.2],
  [0.8, 0.2],
  [0.2, 0.8],
  [0.8, 0.8],
]; // of the words on the field, in parts of its width and height
const REST_MS = 350; // before a change, and between two: the server takes four a second
const LEAST = 0.1; // A word of less weight is left out.
const SPEED = 45; // steps a second; playback takes 50
const SURE = 3; // seconds of music after which the speed is known

const words = ["calm piano", "soft strings", "fast drums", "epic brass"];
Object.assign(words, load("words"));
const points = words.map((word) => create("span", { textContent: word }));
const sliders = words.map(addSlider);
let timer = null;
let next = null; // {take, prompt} that is sent after the last one
let isSending = false;
let isSlow = false; // whether this machine makes music slower than it plays
let failure = null; // {take, error} of the last change
let mark = null; // {take, second, text} of the last change

/** Renders the panel, which is there while the next or the chosen song can be steered. */
export function render() {
  const { progress, running, record, sound, state } = deck.chosen ?? {};
  const isSteered = running && record.request.pace === "playback";
  const speed = progress?.steps_per_second; // null while it is resumed
  if (speed && progress.seconds > SURE) isSlow = speed < SPEED;
  ui.steering.hidden = !isSteered && !ui.steered.checked;
  const isOff = !isSteered || !sound || isSlow || state === "reconnecting";
  for (const field of [...sliders, ui.line]) field.disabled = isOff;
  ui.field.classList.toggle("off", isOff);
  ui.line.placeholder = t("Change it to…", "Changer en…");
  if (failure?.take !== deck.chosen) failure = null;
  setText(ui.change, errorText(failure?.error));
  draw();
}

export function draw() {
  if (mark?.take !== deck.chosen) mark = null;
  const left = mark ? mark.second - position() : 0;
  ui.mark.hidden = left <= 0;
  if (left > 0) ui.mark.style.left = `${(100 * mark.second) / deck.chosen.duration}%`;
  setText(ui.heard, left > 0 ? markText(Math.ceil(left)) : restText());
}

function markText(seconds) {
  const { text } = mark;
  return t(`“${text}” sounds in ${seconds} s`, `« ${text} » s’entendra dans ${seconds} s`);
}

function restText() {
  if (isSlow) {
    return t(
      "This machine makes music slower than it plays: a change would come too late.",
      "Cette machine génère moins vite que la lecture : un changement arriverait trop tard.",
    );
  }
  if (!deck.chosen?.running) {
    return t(
      "The next song that you make can be steered.",
      "Le prochain morceau pourra être piloté.",
    );
  }
  return t(
    "Drag the point, or write and press Enter.",
    "Déplacez le point, ou écrivez puis appuyez sur Entrée.",
  );
}

function addSlider(word, index) {
  const name = create("input", { value: word, ariaLabel: `Word ${index + 1}` });
  name.dataset.fr = `Mot ${index + 1}`;
  const slider = create("input", { type: "range", value: 0, ariaLabel: word });
  name.addEventListener("change", () => {
    words[index] = name.value;
    slider.ariaLabel = name.value;
    setText(points[index], name.value);
    save("words", words);
    if (slider.valueAsNumber) schedule();
  });
  slider.addEventListener("input", () => {
    place(ui.puck, middle());
    schedule();
  });
  place(points[index], PLACES[index]);
  ui.field.append(points[index]);
  ui.weights.append(name, slider);
  return slider;
}

function shares() {
  const sum = sliders.reduce((all, { valueAsNumber }) => all + valueAsNumber, 0) || 1;
  return sliders.map(({ valueAsNumber }) => valueAsNumber / sum);
}

function middle() {
  if (sliders.every(({ valueAsNumber }) => valueAsNumber === 0)) return [0.5, 0.5];
  const along = (axis) =>
    shares().reduce((all, share, index) => all + share * PLACES[index][axis], 0);
  return [along(0), along(1)];
}

function place({ style }, [x, y]) {
  Object.assign(style, { left: `${100 * x}%`, top: `${100 * y}%` });
}

function pull({ clientX, clientY }) {
  const box = ui.field.getBoundingClientRect();
  const x = clamp((clientX - box.x) / box.width, 0, 1);
  const y = clamp((clientY - box.y) / box.height, 0, 1);
  place(ui.puck, [x, y]);
  const near = PLACES.map(([a, b]) => 1 / (0.01 + (x - a) ** 2 + (y - b) ** 2));
  const sum = near.reduce((all, weight) => all + weight);
  for (const [index, slider] of sliders.entries()) slider.value = (100 * near[index]) / sum;
  schedule();
}

/** Sends the words once the hand rests: each change makes a section, and a song has few. */
function schedule() {
  clearTimeout(timer);
  timer = setTimeout(() => send(blend()), REST_MS);
}

function blend() {
  const weights = shares().map((share) => Number(share.toFixed(2)));
  const parts = words.map((text, index) => ({ text, weight: weights[index] }));
  const heard = parts.filter(({ text, weight }) => text.trim() && weight >= LEAST);
  return heard.length === 1 ? heard[0].text : heard;
}

/** Changes the song, a while after the last change. Of those that wait, the newest counts. */
async function send(prompt) {
  next = { take: deck.chosen, prompt };
  if (isSending) return;
  isSending = true;
  while (next) {
    const newest = next;
    next = null;
    await change(newest);
    await pause(REST_MS);
  }
  isSending = false;
}

async function change({ take, prompt }) {
  if (!take?.running || prompt.length === 0) return;
  failure = null;
  try {
    const second = await take.change({ prompt });
    const [{ text }] = [prompt].flat().toSorted((a, b) => b.weight - a.weight);
    mark = { take, second, text: text ?? prompt };
    if (prompt === ui.line.value.trim()) ui.line.value = "";
  } catch (error) {
    error.field &&= "line";
    failure = { take, error };
  }
  render();
}

ui.field.addEventListener("pointerdown", (event) => {
  if (ui.line.disabled) return;
  ui.field.setPointerCapture(event.pointerId);
  pull(event);
});
ui.field.addEventListener("pointermove", (event) => {
  if (ui.field.hasPointerCapture(event.pointerId)) pull(event);
});
ui.line.addEventListener("keydown", ({ key, isComposing }) => {
  if (key !== "Enter" || isComposing) return;
  send(ui.line.value.trim());
});
