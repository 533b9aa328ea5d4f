/** The page: what is asked for above, the songs below, and one player for all of them. */

import { fetchModels } from "./api.js";
import { createCard } from "./card.js";
import * as composer from "./composer.js";
import { switchLanguage, t, translate } from "./i18n.js";
import * as player from "./player.js";
import { PEAK_RATE } from "./sound.js";
import { Take } from "./take.js";
import { onClick, say, ui } from "./ui.js";
import { createStore, del, set, values } from "./vendor/idb-keyval.js";

const shelf = createStore("audiocraft", "songs"); // Songs that this browser keeps. The server keeps none.
const onShelf = async (ask, ...given) => ask(...given, shelf); // rejects also where no IndexedDB is
const cards = new Map(); // by take
let awaited = null; // the take that plays as soon as it sounds

function place(take, last = false) {
  const card = createCard(take, { play, goOn, remove });
  cards.set(take, card);
  take.addEventListener("change", () => {
    if (take === awaited && take.sound) play(take);
    player.update(); // also in a tab that is not seen, which draws no frames
  });
  if (last) ui.songs.append(card.element);
  else ui.shelf.after(card.element);
}

async function make(take) {
  await take.make();
  const { state, error, sound, kept } = take;
  if (state === "done") onShelf(set, kept.id, kept).catch(() => say(ui.kept, t("This browser can’t keep more songs.")));
  if (error?.code !== "unauthorized") loadModels();
  if (sound || (error && !error.field)) return;
  remove(take);
  if (error) composer.show(error); // It is refused for what stands in the form.
}

const loadModels = () => fetchModels().then(composer.setCatalogue, composer.show);

/** Variations of one request are heard at the same position. */
async function play(take) {
  player.unlock();
  awaited = null;
  const sound = await take.load();
  if (!cards.has(take)) return; // It was removed meanwhile.
  const other = [...cards.keys()].find((it) => it.sound && it.sound === player.sound);
  player.play(sound, other?.kept.group === take.kept.group ? player.position() : 0);
}

async function goOn(take, position) {
  const sound = await take.load();
  const frame = sound.rate / PEAK_RATE; // the model's frames, too, are 50 a second
  const frames = Math.floor(position * PEAK_RATE) * frame || sound.filled;
  composer.goOn(take.kept.request, sound.file(frames), frames / sound.rate);
}

/** A song vanishes when it is gone, and not a moment before. */
async function remove(take) {
  take.cancel();
  player.leave(take.sound);
  await onShelf(del, take.kept.id).catch(() => {});
  if (!cards.has(take)) return; // asked for twice
  const { element } = cards.get(take);
  if (element.contains(document.activeElement)) ui.prompt.focus({ preventScroll: true });
  element.remove();
  cards.delete(take);
}

function renderTexts() {
  translate(document);
  composer.render();
  composer.renderError();
  for (const card of cards.values()) card.render();
}

/** What sounds moves, and what sounded a moment ago has come to rest. */
function drawFrame(before) {
  const { sound } = player;
  requestAnimationFrame(() => drawFrame(sound));
  player.update();
  for (const [take, card] of cards) if (take.sound && [sound, before].includes(take.sound)) card.draw();
}

ui.form.addEventListener("submit", (event) => {
  event.preventDefault();
  composer.show(null);
  player.unlock();
  const takes = composer.songs().map((kept) => new Take(kept));
  awaited = takes[0];
  for (const take of [...takes].reverse()) place(take);
  for (const take of takes) make(take);
});
ui.volume.addEventListener("input", () => player.setVolume(ui.volume.valueAsNumber));
onClick(ui, {
  clear: () => {
    if (!confirm(t("Delete all songs from this browser?"))) return;
    for (const take of [...cards.keys()]) if (!take.running) remove(take);
  },
  language: () => { switchLanguage(); renderTexts(); },
});
renderTexts();
loadModels();
drawFrame(null);
const songs = await onShelf(values).catch(() => []);
for (const kept of songs.sort((one, other) => other.at - one.at)) place(new Take(kept), true);
