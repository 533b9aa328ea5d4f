/** The page: connects the composer, the deck, the shelf, the transport and the store of songs. */

import { fetchModels } from "./api.js";
import * as blocks from "./blocks.js";
import * as composer from "./composer.js";
import * as deck from "./deck.js";
import { Generation } from "./generation.js";
import { switchLanguage, t, translate } from "./i18n.js";
import * as notice from "./notice.js";
import * as player from "./player.js";
import { remake } from "./remake.js";
import { sectionsOf, titleOf } from "./sections.js";
import * as shelf from "./shelf.js";
import * as steering from "./steering.js";
import * as store from "./store.js";
import * as takes from "./takes.js";
import * as timeline from "./timeline.js";
import * as transport from "./transport.js";
import { onClick, setText, ui } from "./ui.js";

const EXAMPLE = {
  id: "example",
  group: "example",
  isExample: true,
  take: 0,
  license: "MIT",
  filename: "example.wav",
  duration: 8,
  request: {
    model: "musicgen-tiny",
    prompt: "happy guitar and drums, 120 bpm",
    duration: 8,
    ending: "fade",
    seed: 3,
  },
};

let songs = []; // generations, the newest first

function addSongs(records) {
  const added = records.map((record) => new Generation(record));
  for (const song of added) {
    song.addEventListener("save", () => save(song));
    song.addEventListener("change", () => {
      deck.update(song);
      player.update(); // A hidden tab draws no frames.
      if (deck.takes.includes(song)) renderDeck();
      shelf.render(songs);
    });
  }
  songs = [...added, ...songs].sort((a, b) => b.record.at - a.record.at);
  shelf.render(songs);
  return added;
}

function save(song) {
  const { record } = song;
  if (!songs.includes(song)) return; // It is deleted.
  store.save(record).catch(() => setText(ui.kept, t("No room for this song: save its file.")));
}

/** Keeps what the user has changed of a song. */
function keep(song) {
  save(song);
  renderDeck();
  shelf.render();
}

/** Gives a song a star, or takes it away. */
function star(song) {
  song.record.isStarred = !song.record.isStarred;
  keep(song);
}

/** Runs a generation to its end, in one tab; a take without music is removed, unless it failed. */
async function run(song) {
  const { record } = song;
  const { locks } = navigator; // Browsers have them over TLS and on this machine only.
  if (locks) await locks.request(record.id, { ifAvailable: true }, (lock) => lock && song.run());
  else await song.run();
  const { state, error } = song;
  if (!deck.takes.includes(song) && song !== deck.current) song.unload();
  if (error?.code !== "unauthorized") refreshModels().catch(() => {}); // The deck shows the error.
  if (state !== "failed" || (error && !error.field)) return;
  forget([song.record.id]);
  store.remove([song.record]).catch(() => {});
  if (error) composer.showError(error); // It belongs to a field of the form.
}

async function refreshModels() {
  composer.setCatalogue(await fetchModels());
}

/** Puts a song on the deck, with the other takes of its group. */
async function open(song, isToPlay) {
  deck.show(takesOf(song), song);
  if (isToPlay) await deck.play(song);
  else await deck.choose(song);
}

/** Deletes songs, until the user takes it back. */
async function remove(gone) {
  const records = gone.map(({ record }) => record);
  const [title, count] = [titleOf(records[0]), records.length];
  const chosen = gone.indexOf(deck.chosen);
  forget(records.map(({ id }) => id));
  takes.focusChosen();
  const undo = await store.remove(records).catch(() => null);
  const text = count === 1 ? "Deleted “{title}”" : "Deleted {count} songs";
  notice.show(t(text, { title, count }), async () => {
    const back = addSongs(records.map((record) => ({ ...record, isUnfinished: false })));
    if (back[chosen]) open(back[chosen]);
    takes.focusChosen();
    await undo?.().catch(() => setText(ui.kept, t("No room for this song: save its file.")));
  });
}

/** Takes deleted songs off the page. Those that are made now are cancelled. */
function forget(ids) {
  const gone = songs.filter(({ record }) => ids.includes(record.id));
  songs = songs.filter((song) => !gone.includes(song));
  for (const song of gone) {
    song.cancel();
    deck.forget(song);
  }
  if (!deck.chosen && gone.length) {
    ui.prompt.focus({ preventScroll: true });
    showLast();
  }
  shelf.render(songs);
}

/** Puts the last song on an empty deck, or the bundled one. */
async function showLast() {
  const song = songs.find(({ record }) => record.isUnfinished) ?? songs[0] ?? (await loadExample());
  if (deck.chosen) return;
  deck.show(takesOf(song), song);
  deck.choose(song);
}

async function loadExample() {
  const response = await fetch("/sounds/example.wav");
  return new Generation({ ...EXAMPLE, blob: await response.blob() });
}

/** The takes of a song's group, in order. */
function takesOf(song) {
  const group = songs.filter(({ record }) => record.group === song.record.group);
  return group.length ? group.sort((a, b) => a.record.take - b.record.take) : [song];
}

async function submit(event) {
  event.preventDefault();
  composer.showError(null);
  player.unlock();
  const added = addSongs(await composer.createRecords());
  deck.show(added);
  deck.playFirst(added);
  ui.deck.scrollIntoView({ block: "nearest" });
  for (const song of added) run(song);
}

/** Makes a take anew from a second on, as another take that plays. */
async function makeFrom(take, sections, second) {
  const record = { ...(await remake(take, sections, second)), take: takes.nextTake() };
  const [song] = addSongs([record]);
  deck.playFrom(song, second);
  if (song.state === "done") save(song);
  else run(song);
}

function renderDeck() {
  takes.render();
  blocks.render();
  steering.render();
  transport.draw();
}

function renderTexts() {
  translate(document);
  composer.render();
  renderDeck();
  shelf.render(songs);
}

function drawFrame() {
  requestAnimationFrame(drawFrame);
  player.update();
  timeline.draw();
  steering.draw(timeline.position());
  takes.draw();
  transport.draw();
}

/** Shows the stored songs, and goes on with those that a reload has broken off. */
async function restore() {
  const stored = addSongs(await store.load());
  for (const song of stored) if (song.record.isUnfinished) run(song);
  showLast();
}

/** Follows what another tab has done to the songs. */
function followTab({ saved = [], removed = [] }) {
  forget(removed);
  const known = ({ id }) => songs.find(({ record }) => record.id === id);
  for (const record of saved) known(record)?.adopt(record);
  if (deck.chosen && !deck.chosen.sound) deck.choose(deck.chosen);
  addSongs(saved.filter((record) => !known(record)));
}

deck.watch(renderDeck);
blocks.watch(makeFrom);
shelf.watch({ open, remove, keep, star });
ui.form.addEventListener("submit", submit);
ui.steered.addEventListener("change", steering.render);
onClick(ui, {
  generate: ({ detail }) => {
    if (detail) ui.generate.blur(); // After a click, Space pauses the song.
  },
  redo: () => {
    const second = timeline.position();
    const isAtEnd = second > deck.chosen.seconds - 1;
    makeFrom(deck.chosen, sectionsOf(deck.chosen.record), isAtEnd ? 0 : second);
  },
  again: () => {
    run(deck.chosen);
    takes.focusChosen();
  },
  star: () => star(deck.chosen),
  remove: () => remove([deck.chosen]),
  language: async () => {
    await switchLanguage();
    setText(ui.kept, "");
    renderTexts();
  },
});
store.subscribe(followTab);
renderTexts();
refreshModels().catch(composer.showError);
drawFrame();
restore();
