/** The page: connects the form, the songs' cards, the player and the browser's store of songs. */

import { fetchModels } from "./api.js";
import { Card } from "./card.js";
import * as composer from "./composer.js";
import { Generation } from "./generation.js";
import { switchLanguage, t, translate } from "./i18n.js";
import * as player from "./player.js";
import { PEAK_RATE } from "./sound.js";
import * as store from "./store.js";
import { onClick, setText, ui } from "./ui.js";

const cards = new Map(); // by generation
let nextToPlay = null; // the generation that plays as soon as it has samples

function saveRecord(record) {
  store.save(record).catch(() => {
    setText(ui.kept, t("No room for this song: download it."));
  });
}

function createCard(generation) {
  const card = new Card(generation, { play, continueFrom, remove });
  cards.set(generation, card);
  generation.addEventListener("change", () => {
    if (generation === nextToPlay && generation.sound) play(generation);
    player.update(); // A hidden tab draws no frames.
  });
  return card;
}

/** Runs a generation to its end, then stores its song; a card without song or error is removed. */
async function run(generation) {
  await generation.run();
  const { state, error, sound, record } = generation;
  if (state === "done") saveRecord(record);
  if (generation !== nextToPlay && sound !== player.sound) generation.unload();
  if (error?.code !== "unauthorized") refreshModels().catch(() => {}); // The card shows the error.
  const isRefused = error?.field; // The error belongs to a field of the form.
  if (sound || (error && !isRefused)) return;
  remove(generation);
  if (isRefused) composer.showError(error);
}

async function refreshModels() {
  composer.setCatalogue(await fetchModels());
}

/**
 * Plays a song, from a second on if one is given. A variation of the current song takes over its
 * position and its loop.
 */
async function play(generation, from) {
  player.unlock();
  nextToPlay = generation;
  const sound = await generation.load();
  const isReplaced = generation !== nextToPlay;
  if (!sound || isReplaced) return;
  nextToPlay = null;
  const current = currentGeneration();
  const isVariation = current?.record.group === generation.record.group;
  const position = isVariation ? player.position() : 0;
  player.play(sound, from ?? position, isVariation ? player.loop : null);
  if (current !== generation) current?.unload();
}

/** The generation whose song is in the player. */
function currentGeneration() {
  return [...cards.keys()].find(({ sound }) => sound && sound === player.sound);
}

/** Fills the form for a song that continues this one from `position` seconds. */
async function continueFrom(generation, position) {
  const sound = await generation.load();
  const step = sound.rate / PEAK_RATE; // The model, too, makes 50 frames a second.
  const length = Math.floor(position * PEAK_RATE) * step || sound.frames;
  const source = sound.file(length);
  composer.continueSong(generation.record, source, length / sound.rate);
}

/** Cancels a generation and deletes its song; its card disappears once the song is deleted. */
async function remove(generation) {
  generation.cancel();
  await store.remove([generation.record]).catch(() => {});
  hide(generation);
}

function hide(generation) {
  const card = cards.get(generation);
  if (!card) return; // Another call has removed it.
  const hasFocus = card.element.contains(document.activeElement);
  if (hasFocus) ui.prompt.focus({ preventScroll: true });
  card.element.remove();
  cards.delete(generation);
  player.forget(generation.sound);
  if (nextToPlay === generation) nextToPlay = null;
}

function removeAll() {
  if (!confirm(t("Delete all songs from this browser?"))) return;
  const done = [...cards.keys()].filter(({ running }) => !running);
  store.remove(done.map(({ record }) => record)).catch(() => {});
  done.forEach(hide);
}

async function submit(event) {
  event.preventDefault();
  composer.showError(null);
  player.unlock();
  const records = await composer.createRecords();
  const generations = records.map((record) => new Generation(record));
  nextToPlay = generations[0];
  ui.cards.prepend(...generations.map((generation) => createCard(generation).element));
  ui.cards.firstElementChild.scrollIntoView({ block: "nearest" });
  for (const generation of generations) run(generation);
}

function renderTexts() {
  translate(document);
  composer.render();
  for (const card of cards.values()) card.render();
}

/** Draws, once per frame, the cards whose song plays or has played in the frame before. */
function drawFrame(previousSound) {
  const sound = player.state === "paused" ? null : player.sound;
  requestAnimationFrame(() => drawFrame(sound));
  player.update();
  for (const [generation, card] of cards) {
    if (generation.sound && [sound, previousSound].includes(generation.sound)) card.draw();
  }
}

async function showStoredSongs() {
  const records = await store.load();
  ui.cards.append(...records.map((record) => createCard(new Generation(record)).element));
}

/** Follows what another tab has done to the songs. */
function followTab({ saved = [], removed = [] }) {
  const shown = (wanted) => [...cards.keys()].find(({ record }) => record.id === wanted);
  removed.map(shown).filter(Boolean).forEach(hide);
  const added = saved.filter(({ id }) => !shown(id)).map((record) => new Generation(record));
  ui.cards.prepend(...added.map((generation) => createCard(generation).element));
}

ui.form.addEventListener("submit", submit);
ui.volume.addEventListener("input", () => player.setVolume(ui.volume.valueAsNumber));
onClick(ui, {
  clear: removeAll,
  language: () => {
    switchLanguage();
    setText(ui.kept, "");
    renderTexts();
  },
});
renderTexts();
refreshModels().catch(composer.showError);
drawFrame(null);
showStoredSongs();
store.subscribe(followTab);
