/** The page: connects the composer, the deck, the shelf, the transport and the store of songs. */

import { fetchModels } from "./api.js";
import * as blocks from "./blocks.js";
import * as composer from "./composer.js";
import * as deck from "./deck.js";
import { switchLanguage, t, translate } from "./i18n.js";
import * as notice from "./notice.js";
import * as player from "./player.js";
import { beforeFade, remake } from "./remake.js";
import { sectionsOf, titleOf } from "./sections.js";
import * as shelf from "./shelf.js";
import * as songs from "./songs.js";
import * as steering from "./steering.js";
import * as store from "./store.js";
import * as takes from "./takes.js";
import * as timeline from "./timeline.js";
import * as transport from "./transport.js";
import { onClick, ui } from "./ui.js";

const EXAMPLE = {
  id: "example",
  isExample: true,
  at: 0, // older than all others
  license: "MIT",
  filename: "example.wav",
  request: {
    model: "musicgen-tiny",
    prompt: "happy guitar and drums, 120 bpm",
    duration: 8,
    ending: "fade",
    seed: 4,
  },
};

/** Runs a generation to its end, in one tab. An unfinished one waits for the tab that makes it. */
async function run(song, isUnfinished = false) {
  const { id } = song.record;
  const make = async () => {
    if (isUnfinished && !song.adopt(await store.find(id))) return; // The other tab has ended it.
    await song.run();
    settle(song);
    // This tab alone has such a song, so it keeps the lock: no other tab makes it again.
    if (song.refusal && song.state === "done") await new Promise(() => {});
  };
  const { locks } = navigator; // Browsers have them over TLS and on this machine only.
  const ifAvailable = !isUnfinished; // A second click makes no second song.
  if (locks) await locks.request(id, { ifAvailable }, (lock) => lock && make());
  else await make();
}

/** Takes the end of a generation into account. One without music is removed, unless it failed. */
function settle(song) {
  const { record, state, error } = song;
  if (!songs.all.includes(song)) return; // It is deleted, and may be back as another one.
  if (!deck.takes().includes(song) && song !== deck.current) song.unload();
  if (error?.code !== "unauthorized") refreshModels().catch(() => {}); // The deck shows the error.
  if (state !== "failed" || (error && !error.field)) return;
  forget([record.id]);
  store.remove([record.id]);
  if (error) composer.showError(error); // It belongs to a field of the form.
}

async function refreshModels() {
  composer.setCatalogue(await fetchModels());
}

async function remove(gone) {
  const records = gone.map(({ record }) => record);
  const ids = records.map(({ id }) => id);
  const [title, count] = [titleOf(records[0]), records.length];
  const chosen = gone.indexOf(deck.chosen);
  forget(ids);
  takes.focusChosen();
  await store.remove(ids);
  const text =
    count === 1
      ? t(`Deleted “${title}”`, `« ${title} » supprimé`)
      : t(`Deleted ${count} songs`, `${count} morceaux supprimés`);
  notice.show(text, async () => {
    const fresh = { isKept: false, isUnfinished: false };
    const back = songs.add(records.map((record) => ({ ...record, ...fresh })));
    for (const song of back) songs.save(song);
    await deck.choose(back[chosen]);
    takes.focusChosen();
  });
}

function forget(ids) {
  const gone = songs.drop(ids);
  for (const song of gone) deck.forget(song);
  shelf.render();
  if (deck.chosen || !gone.length) return;
  ui.prompt.focus({ preventScroll: true });
  showLast();
}

async function showLast() {
  const unfinished = songs.all.find(({ record }) => record.isUnfinished);
  const song = unfinished ?? songs.all[0] ?? (await loadExample());
  if (!deck.chosen) deck.choose(song);
}

async function loadExample() {
  const response = await fetch("/sounds/example.wav");
  const blob = await response.blob();
  return songs.all[0] ?? songs.add([{ ...EXAMPLE, blob }])[0]; // A song may have come meanwhile.
}

async function submit(event) {
  event.preventDefault();
  const error = composer.findError();
  composer.showError(error);
  if (error) return;
  player.unlock();
  const records = await composer.createRecords();
  if (records.length === 0) return;
  const added = songs.add(records);
  deck.show(added[0]);
  deck.playFirst(added);
  ui.deck.scrollIntoView({ block: "nearest" });
  for (const song of added) run(song);
}

/** Makes a take anew from a second on, as another take that plays. */
async function makeFrom(take, sections, second) {
  const record = { take: takes.nextTake(), ...(await remake(take, sections, second)) };
  const [song] = songs.add([record]);
  deck.playFrom(song, second);
  takes.focusChosen();
  if (record.isUnfinished) run(song);
  else songs.save(song);
}

function renderDeck() {
  takes.render();
  blocks.render();
  steering.render();
  transport.draw();
}

function renderTexts() {
  translate();
  composer.renderModels();
  composer.render();
  renderDeck();
  shelf.render();
}

function drawFrame() {
  requestAnimationFrame(drawFrame);
  tick();
  timeline.draw();
  steering.draw();
  takes.draw();
}

function tick() {
  player.update();
  transport.draw();
}

async function restore() {
  songs.add(await store.load());
  for (const song of songs.all) if (song.record.isUnfinished) run(song, true);
  showLast();
}

async function followTab({ saved, removed = [] }) {
  forget(removed);
  const record = saved && (await store.find(saved));
  if (!record) return; // Nothing is saved, or it is deleted meanwhile.
  const known = songs.all.find((one) => one.record.id === saved);
  const isBegun = record.isUnfinished && !known?.record.isUnfinished;
  known?.adopt(record);
  const song = known ?? songs.add([record])[0];
  if (isBegun && navigator.locks) run(song, true);
  if (song === deck.chosen && !song.sound) deck.choose(song);
}

songs.watch((song) => {
  if (song) deck.update(song);
  player.update(); // A hidden tab draws no frames.
  if (!song || deck.takes().includes(song)) renderDeck();
  shelf.render();
});
deck.watch(renderDeck);
ui.form.addEventListener("submit", submit);
ui.section.addEventListener("submit", (event) => {
  event.preventDefault();
  makeFrom(...blocks.endDraft());
});
ui.steered.addEventListener("change", steering.render);
onClick({
  generate: ({ detail }) => {
    if (detail) ui.generate.blur(); // After a click, Space pauses the song.
  },
  redo: () => {
    const { chosen } = deck;
    const second = timeline.position();
    const isAtEnd = second > beforeFade(chosen) - 1;
    makeFrom(chosen, sectionsOf(chosen.record), isAtEnd ? 0 : second);
  },
  again: () => {
    run(deck.chosen);
    takes.focusChosen();
  },
  star: () => songs.star(deck.chosen),
  remove: () => remove([deck.chosen]),
  discard: () => remove(shelf.selected()),
  sweep: () => remove(shelf.swept()),
  language: () => {
    switchLanguage();
    renderTexts();
  },
});
store.subscribe(followTab);
renderTexts();
refreshModels().catch(composer.showError);
drawFrame();
setInterval(tick, 1000); // A hidden page draws no frames.
restore();
