/** Examples to hear, and the words of the prompt that musicgen-tiny does not know. */

import { t } from "./i18n.js";
import { create, setText, ui } from "./ui.js";
import { VOCABULARY } from "./vocabulary.js";

const WORD = /(\p{L}+)/u;

const example = new Audio();
const playback = new BroadcastChannel("playback"); // One player sounds, of all tabs.

export function renderWords(model) {
  const isTiny = model?.id.startsWith("musicgen-tiny");
  const parts = ui.prompt.value.split(WORD); // Every second one is a word.
  const isUnknown = (part, index) => isTiny && index % 2 && !VOCABULARY.has(plain(part));
  const nodes = parts.map((part, index) =>
    isUnknown(part, index) ? create("mark", {}, part) : part,
  );
  ui.marks.replaceChildren(...nodes, "\n"); // A line break at the end has a height.
  scrollMarks();
  const unknown = [...new Set(parts.filter(isUnknown))].join(", ");
  const id = model?.id;
  const text = t(`${id} does not know: ${unknown}`, `${id} ne connaît pas : ${unknown}`);
  setText(ui.unknown, unknown && text);
}

function scrollMarks() {
  ui.marks.scrollTop = ui.prompt.scrollTop;
}

function plain(word) {
  return word.toLowerCase().normalize("NFD").replace(/\p{M}/gu, "");
}

export function renderExamples() {
  for (const button of ui.examples.querySelectorAll("[data-sound]")) {
    const name = button.nextElementSibling.textContent;
    setText(button, isPlaying(button) ? "■" : "▶");
    button.ariaLabel = isPlaying(button)
      ? t(`Stop ${name}`, `Arrêter ${name}`)
      : t(`Hear ${name}`, `Écouter ${name}`);
  }
}

function fileOf({ dataset }) {
  return `/sounds/${dataset.sound}.mp3`;
}

function isPlaying(button) {
  return !example.paused && example.src.endsWith(fileOf(button));
}

function toggle({ target }) {
  if (!target.dataset.sound) return;
  if (isPlaying(target)) return example.pause();
  playback.postMessage("plays"); // The deck falls silent.
  example.src = fileOf(target);
  example.volume = ui.volume.valueAsNumber ** 2;
  example.play().catch(() => {}); // Another one was chosen meanwhile.
}

ui.prompt.addEventListener("scroll", scrollMarks);
ui.examples.addEventListener("click", toggle);
playback.addEventListener("message", () => example.pause());
for (const event of ["play", "pause"]) example.addEventListener(event, renderExamples);
