/** The page: what is asked for above, the songs below, and one player for all of them. */

import { fetchModels } from "./api.js";
import { Card } from "./card.js";
import { Composer } from "./composer.js";
import { switchLanguage, t, translate } from "./i18n.js";
import { Player } from "./player.js";
import * as shelf from "./shelf.js";
import { Take } from "./take.js";
import { beginning } from "./wav.js";

const POLL_MS = 1000;
const ui = Object.fromEntries([...document.querySelectorAll("[id]")].map((it) => [it.id, it]));
const player = new Player();
const composer = new Composer();
const cards = new Map(); // by take, the latest first
let awaited = null; // the take that plays as soon as it sounds

function compose() {
  player.unlock();
  composer.show(null);
  const takes = composer.songs().map((kept) => new Take(kept));
  for (const take of [...takes].reverse()) {
    place(take);
    make(take);
  }
  awaited = takes[0];
}

async function make(take) {
  watchModels(take);
  await take.make();
  if (take.state === "done") {
    shelf.keep(take.kept).catch(() => { ui.kept.textContent = t("notKept"); });
  } else if (!take.sound && (take.state === "cancelled" || composer.showBeside(take.error))) {
    remove(take);
  }
  if (take.state !== "failed" || take.error.code !== "unauthorized") loadModels();
}

/** So that the list tells what loads. */
async function watchModels(take) {
  while (take.running) {
    if (take.state === "loading") await loadModels();
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function place(take, last = false) {
  const card = new Card(take, player, { play, goOn, remove, retry });
  cards.set(take, card);
  take.addEventListener("change", () => {
    if (take === awaited && take.sound) play(take);
    if (take.sound === player.sound) player.update();
  });
  if (last) ui.takes.append(card.element);
  else ui.shelf.after(card.element);
  ui.takes.hidden = false;
}

/** Variations of one request are heard at the same position. */
async function play(take) {
  awaited = null;
  if (take.state === "done") await take.load();
  const other = [...cards.keys()].find(({ sound }) => sound && sound === player.sound);
  const related = other === take || (other && other.kept.group === take.kept.group);
  player.play(take.sound, related ? player.position : 0);
}

async function goOn(take, position) {
  if (take.state === "done") await take.load();
  const frames = Math.floor(position * 50) * (take.format.rate / 50);
  const place = frames / take.format.rate || take.sound.seconds;
  composer.goOn(take.kept.request, beginning(take.blob, take.format, place * take.format.rate), place);
}

function retry(take) {
  const again = new Take({ ...take.kept, revision: undefined });
  remove(take);
  place(again);
  awaited = again;
  player.unlock();
  make(again);
}

function remove(take) {
  take.cancel();
  player.leave(take.sound);
  cards.get(take)?.element.remove();
  cards.delete(take);
  shelf.forget(take.kept.id).catch(() => {});
  ui.takes.hidden = cards.size === 0;
}

async function loadModels() {
  try {
    composer.catalogue = await fetchModels();
  } catch (error) {
    composer.show(error);
  }
}

function renderTexts() {
  translate(document);
  composer.render();
  for (const card of cards.values()) card.render();
}

function frame() {
  player.update();
  for (const card of cards.values()) card.draw();
  requestAnimationFrame(frame);
}

ui.form.addEventListener("submit", (event) => {
  event.preventDefault();
  compose();
});
ui.retry.addEventListener("click", () => {
  ui.generate.focus(); // The button pressed is about to vanish, and the focus with it.
  composer.show(null);
  loadModels();
});
ui.volume.addEventListener("input", () => { player.volume = ui.volume.valueAsNumber; });
ui.model.addEventListener("change", () => composer.render());
ui.forget.addEventListener("click", async () => {
  if (!confirm(t("forgetAllSure"))) return;
  for (const take of [...cards.keys()]) if (!take.running) remove(take);
  await shelf.forgetAll();
});
ui.language.addEventListener("click", () => {
  switchLanguage();
  renderTexts();
});

renderTexts();
loadModels();
shelf.songs().then((all) => all.forEach((kept) => place(new Take(kept), true)), () => {});
requestAnimationFrame(frame);
