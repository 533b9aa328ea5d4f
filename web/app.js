/** The page: what is asked for above, the songs below, and one player for all of them. */

import { fetchModels } from "./api.js";
import { createCard } from "./card.js";
import * as composer from "./composer.js";
import { switchLanguage, t, translate } from "./i18n.js";
import * as player from "./player.js";
import { PEAK_RATE } from "./sound.js";
import { Take } from "./take.js";
import { onClick, say, ui } from "./ui.js";
import { clear, createStore, del, set, values } from "./vendor/idb-keyval.js";

const shelf = createStore("audiocraft", "songs"); // Songs that this browser keeps. The server keeps none.
const onShelf = async (ask, ...given) => ask(...given, shelf); // rejects also where no IndexedDB is
const cards = new Map(); // by take
let awaited = null; // the take that plays as soon as it sounds

/** The take's card, which lives as long as it. */
function place(take) {
  const card = createCard(take, { play, goOn, remove });
  cards.set(take, card);
  take.addEventListener("change", () => {
    if (take === awaited && take.sound) play(take);
    player.update(); // also in a tab that is not seen, which draws no frames
  });
  return card.element;
}

async function make(take) {
  await take.make();
  const { state, error, sound, kept } = take;
  if (state === "done") onShelf(set, kept.id, kept).catch(() => say(ui.kept, t("No room for this song: download it.")));
  if (take !== awaited && sound !== player.sound) take.unload();
  if (error?.code !== "unauthorized") loadModels().catch(() => {}); // The song tells already.
  if (sound || (error && !error.field)) return;
  remove(take);
  if (error) composer.show(error); // It is refused for what stands in the form.
}

const loadModels = () => fetchModels().then(composer.render);

/** Variations of one request are heard at the same position, and in the same part. */
async function play(take, from) {
  player.unlock();
  awaited = take;
  const sound = await take.load();
  if (!sound || take !== awaited) return; // It plays once it sounds; or another is awaited by now.
  awaited = null;
  const other = [...cards.keys()].find((it) => it.sound && it.sound === player.sound);
  const isSibling = other?.kept.group === take.kept.group;
  player.play(sound, from ?? (isSibling ? player.position() : 0), isSibling ? player.loop : null);
  if (other !== take) other?.unload();
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
  await onShelf(del, take.kept.id).catch(() => {});
  if (!cards.has(take)) return; // asked for twice
  const { element } = cards.get(take);
  if (element.contains(document.activeElement)) ui.prompt.focus({ preventScroll: true });
  element.remove();
  cards.delete(take);
  player.leave(take.sound);
  if (awaited === take) awaited = null;
}

function renderTexts() {
  translate(document);
  composer.render();
  for (const card of cards.values()) card.render();
}

/** What sounds moves, and what sounded a moment ago has come to rest. */
function drawFrame(before) {
  const sound = player.state === "paused" ? null : player.sound;
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
  ui.cards.prepend(...takes.map(place));
  ui.cards.firstElementChild.scrollIntoView({ block: "nearest" });
  takes.forEach(make);
});
ui.volume.addEventListener("input", () => player.setVolume(ui.volume.valueAsNumber));
onClick(ui, {
  clear: () => {
    if (!confirm(t("Delete all songs from this browser?"))) return;
    onShelf(clear).catch(() => {}); // also what other tabs keep
    for (const take of [...cards.keys()]) if (!take.running) remove(take);
  },
  language: () => { switchLanguage(); say(ui.kept, ""); renderTexts(); },
});
renderTexts();
loadModels().catch(composer.show);
drawFrame(null);
const songs = await onShelf(values).catch(() => []);
ui.cards.append(...songs.sort((one, other) => other.at - one.at).map((kept) => place(new Take(kept))));
