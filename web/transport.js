/** The transport: play, time, volume, loop and save; keys, the lock screen and the tab's title. */

import * as deck from "./deck.js";
import { clock, t } from "./i18n.js";
import * as player from "./player.js";
import { titleOf } from "./sections.js";
import { letter } from "./takes.js";
import { loadItem, onClick, saveItem, setText, ui } from "./ui.js";

const SKIP = 5; // seconds
const TITLE = document.title;
const FIELDS = "input:not([type=range]), textarea, select, dialog *"; // Keys are text in them.
const CONTROLS = `${FIELDS}, button, summary, a, [type=range], [role=slider]`; // with own keys
const FILE_URL_MS = 60_000; // how long a file's URL lives: browsers do not report a download's end

/** The take that the transport is about: the one that plays, else the chosen one. */
function take() {
  return player.state === "paused" ? deck.chosen : deck.current;
}

/** Draws what changes while a song plays. */
export function draw() {
  const shown = take();
  ui.transport.hidden = !shown;
  if (!shown) return;
  const isPlaying = player.state !== "paused";
  const position = shown === deck.current ? player.position() : 0;
  const title = titleOf(shown.record);
  setText(ui.playing, title);
  setText(ui.time, `${clock(position)} / ${clock(shown.duration)}`);
  const isMute = !shown.sound && !shown.record.blob;
  ui.play.disabled = isMute && !isPlaying;
  ui.play.dataset.state = isPlaying ? "pause" : "play";
  ui.play.ariaLabel = t(isPlaying ? "Pause, take {letter}" : "Play, take {letter}", {
    letter: letter(shown),
  });
  ui.repeat.ariaPressed = player.loop !== null && shown === deck.current;
  ui.save.disabled = !deck.chosen?.record.blob || deck.chosen.running;
  const tabTitle = isPlaying ? `▶ ${title} · ${TITLE}` : TITLE;
  if (document.title !== tabTitle) document.title = tabTitle;
}

function changeVolume() {
  player.setVolume(ui.volume.valueAsNumber);
  saveItem("localStorage", "volume", ui.volume.value);
}

function skip(seconds) {
  if (deck.chosen) deck.seek(player.position() + seconds);
}

/** Repeats all of the song, or no more. */
async function toggleLoop() {
  if (deck.chosen !== deck.current) return;
  player.setLoop(player.loop ? null : { from: 0, to: deck.current.sound.seconds });
}

function save() {
  const { blob, filename } = deck.chosen.record;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = filename ?? "music.wav";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), FILE_URL_MS);
}

function showKeys() {
  ui.keys.showModal();
}

const KEYS = {
  " ": deck.toggle,
  ArrowLeft: () => skip(-SKIP),
  ArrowRight: () => skip(SKIP),
  l: toggleLoop,
  L: toggleLoop,
  "?": showKeys,
};
for (const [index, digit] of [..."1234"].entries()) {
  KEYS[digit] = () => deck.choose(deck.takes[index]);
}

document.addEventListener("keydown", (event) => {
  const { key, target, ctrlKey, metaKey, altKey } = event;
  const isOthers = target.closest(key === " " || key.startsWith("Arrow") ? CONTROLS : FIELDS);
  if (ctrlKey || metaKey || altKey || isOthers || !KEYS[key]) return;
  event.preventDefault();
  KEYS[key]();
});
ui.volume.value = loadItem("localStorage", "volume") ?? 1;
player.setVolume(ui.volume.valueAsNumber);
ui.volume.addEventListener("input", changeVolume);
onClick(ui, {
  play: deck.toggle,
  repeat: toggleLoop,
  save,
  help: showKeys,
});
