/** The transport: play, time, volume, loop and save; keys, the lock screen and the tab's title. */

import * as deck from "./deck.js";
import { clock, t } from "./i18n.js";
import * as player from "./player.js";
import { titleOf } from "./sections.js";
import { letterOf } from "./takes.js";
import { load, onClick, save, setText, ui, update } from "./ui.js";

const SKIP = 5; // seconds
const TITLE = document.title;
const FIELDS = "input:not([type=range]), textarea, select, dialog *"; // Keys are text in them.
const PRESSED = `${FIELDS}, button, summary`; // by Space
const MOVED = `${FIELDS}, [type=range], [role=slider]`; // by arrows

// Browsers show the lock screen's controls for an element that plays, not for an AudioContext.
const silence = new Audio("/sounds/silence.flac");
silence.loop = true;
let reported = ""; // song, state, second

/** The take that the transport is about: the one that plays, else the chosen one. */
function take() {
  return player.state === "paused" ? deck.chosen : deck.current;
}

export function draw() {
  const shown = take();
  ui.transport.hidden = !shown;
  if (!shown) return;
  const isPlaying = player.state !== "paused";
  const position = deck.positionOf(shown);
  const title = titleOf(shown.record);
  setText(ui.playing, title);
  setText(ui.time, `${clock(position)} / ${clock(shown.duration)}`);
  const verb = isPlaying ? t("Pause", "Pause") : t("Play", "Écouter");
  const label = `${verb}, ${t("take", "prise")} ${letterOf(shown)}`;
  update(ui.play, { disabled: !isPlaying && !shown.seconds, ariaLabel: label });
  update(ui.play.dataset, { state: isPlaying ? "pause" : "play" });
  update(ui.repeat, { ariaPressed: deck.loopOf(shown) !== null });
  update(ui.save, { disabled: !deck.chosen?.record.blob || deck.chosen.running });
  update(document, { title: isPlaying ? `▶ ${title} · ${TITLE}` : TITLE });
  report(title, isPlaying, position, shown.duration);
}

/** Tells the lock screen and the headset's buttons what plays. */
function report(title, isPlaying, position, duration) {
  const session = navigator.mediaSession;
  const news = [title, isPlaying, duration, Math.floor(position)].join();
  if (news === reported) return;
  reported = news;
  if (session.metadata?.title !== title) {
    session.metadata = new MediaMetadata({ title, artist: TITLE });
  }
  session.playbackState = isPlaying ? "playing" : "paused";
  if (isPlaying) silence.play().catch(() => {});
  else silence.pause();
  session.setPositionState({ duration, position: Math.min(position, duration) });
}

function skip(seconds) {
  if (deck.chosen) deck.seek(deck.positionOf(deck.chosen) + seconds);
}

function toggleLoop() {
  const { chosen } = deck;
  if (chosen?.seconds) deck.setLoop(deck.loopOf(chosen) ? null : { from: 0, to: chosen.seconds });
}

const showKeys = () => ui.keys.showModal();

const KEYS = {
  " ": deck.toggle,
  ArrowLeft: () => skip(-SKIP),
  ArrowRight: () => skip(SKIP),
  l: toggleLoop,
  L: toggleLoop,
  "?": showKeys,
};
for (const digit of "1234") KEYS[digit] = () => deck.choose(deck.takes()[digit - 1]);

document.addEventListener("keydown", (event) => {
  const { key, code, target, ctrlKey, metaKey, altKey, repeat } = event;
  const action = KEYS[key] ?? KEYS[code?.replace("Digit", "")]; // A French 1 writes &.
  const others = { " ": PRESSED, ArrowLeft: MOVED, ArrowRight: MOVED }[key] ?? FIELDS;
  if (ctrlKey || metaKey || altKey || target.closest(others) || !action) return;
  event.preventDefault();
  if (!repeat || key.startsWith("Arrow")) action();
});
const ACTIONS = {
  play: () => deck.play(),
  pause: player.pause,
  seekbackward: () => skip(-SKIP),
  seekforward: () => skip(SKIP),
  seekto: ({ seekTime }) => deck.seek(seekTime),
  previoustrack: () => step(-1),
  nexttrack: () => step(1),
};
for (const [name, action] of Object.entries(ACTIONS)) {
  navigator.mediaSession.setActionHandler(name, async (details) => {
    await action(details);
    draw();
  });
}

function step(by) {
  const takes = deck.takes();
  deck.choose(takes[takes.indexOf(deck.chosen) + by]);
}

ui.volume.value = load("volume") ?? 1;
player.setVolume(ui.volume.valueAsNumber);
ui.volume.addEventListener("input", () => {
  player.setVolume(ui.volume.valueAsNumber);
  save("volume", ui.volume.value);
});
onClick({ play: deck.toggle, repeat: toggleLoop, help: showKeys });
