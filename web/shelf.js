/** The shelf: a row for each song that the browser keeps. */

import * as deck from "./deck.js";
import { clock, formatDate, t } from "./i18n.js";
import { saveZip } from "./save.js";
import { titleOf } from "./sections.js";
import * as songs from "./songs.js";
import { letterOf, renderStar } from "./takes.js";
import { create, onClick, setText, ui } from "./ui.js";

const rows = new Map(); // by song: {element, …} of its parts

export function render() {
  for (const song of rows.keys()) if (!songs.all.includes(song)) rows.delete(song);
  const shown = stored().filter(isShown);
  for (const song of shown) renderRow(song);
  placeRows(shown.map((song) => rows.get(song).element));
  renderTools(shown);
}

function stored() {
  return songs.all.filter(({ record }) => !record.isExample);
}

/** Shows these rows. Those that stay are not moved: they would lose the focus. */
function placeRows(elements) {
  const wanted = new Set(elements);
  for (const row of [...ui.songs.children]) if (!wanted.has(row)) row.remove();
  for (const [index, element] of elements.entries()) {
    const there = ui.songs.children[index];
    if (there !== element) ui.songs.insertBefore(element, there ?? null);
  }
}

function renderTools(shown) {
  const all = stored();
  const count = selected().length;
  ui.tools.hidden = all.length === 0;
  ui.selection.hidden = count === 0;
  setText(ui.count, t(`${count} selected`, `Sélection : ${count}`));
  ui.pack.disabled = selected().some(({ record }) => !record.blob);
  ui.sweep.hidden = count > 0 || swept().length === 0;
  ui.search.placeholder = ui.search.ariaLabel;
  ui.nothing.hidden = shown.length > 0 || all.length === 0;
  setText(ui.kept, refusalText(all.find((song) => song.refusal)?.refusal));
}

function refusalText(error) {
  if (!error) return "";
  if (error.name === "QuotaExceededError") {
    return t(
      "No room for this song: save its file.",
      "Plus de place : exportez le fichier de ce morceau.",
    );
  }
  return t(
    "This browser keeps no songs for this page: save their files.",
    "Ce navigateur ne garde pas de morceaux pour cette page : exportez-les.",
  );
}

function isShown({ record }) {
  const words = ui.search.value.toLowerCase().split(/\s+/);
  const text = `${titleOf(record)} ${record.request.model}`.toLowerCase();
  const isWanted = words.every((word) => text.includes(word));
  return isWanted && (record.isStarred || ui.starred.ariaPressed === "false");
}

/** All songs but those that are made now and those with a star. */
export function swept() {
  return stored().filter(({ record }) => !record.isStarred && !record.isUnfinished);
}

export function selected() {
  return stored().filter((song) => isShown(song) && rows.get(song)?.select.checked);
}

function renderRow(song) {
  const { record, duration } = song;
  if (!rows.has(song)) rows.set(song, createRow(song));
  const { select, play, title, time, model, date, star, rename } = rows.get(song);
  const letter = record.take ? letterOf(song) : ""; // Take A needs none.
  const name = [titleOf(record), letter].filter(Boolean).join(", ");
  setText(title, titleOf(record));
  setText(time, [letter, clock(duration)].filter(Boolean).join(" · "));
  setText(model, record.request.model ?? "");
  setText(date, formatDate(record.at));
  select.ariaLabel = t(`Select ${name}`, `Sélectionner ${name}`);
  play.ariaLabel = t(`Play ${name}`, `Écouter ${name}`);
  star.ariaLabel = t(`Star for ${name}`, `Étoile pour ${name}`);
  renderStar(star, record);
  rename.ariaLabel = t(`Rename ${name}`, `Renommer ${name}`);
}

function createRow(song) {
  const play = () => {
    deck.show(song);
    deck.play();
  };
  const parts = {
    select: create("input", { type: "checkbox", onchange: render }),
    play: button("play", play),
    title: button("title", () => deck.choose(song)),
    time: create("span", { className: "hint time" }),
    model: create("span", { className: "hint model" }),
    date: create("time", { className: "hint" }),
    star: button("star", () => songs.star(song)),
    rename: button("rename", () => edit(song, parts), "✎"),
  };
  return { ...parts, element: create("li", {}, ...Object.values(parts)) };
}

function button(className, onclick, text = "") {
  return create("button", { className, onclick }, text);
}

/** Puts a field in place of the title until Enter, Escape or a click elsewhere. */
function edit(song, { title, rename }) {
  const { ariaLabel } = rename;
  const field = create("input", { className: "title", value: titleOf(song.record), ariaLabel });
  title.replaceWith(field);
  field.select();
  field.addEventListener("blur", () => {
    field.replaceWith(title);
    const name = field.value.trim();
    if (name === titleOf(song.record)) return;
    songs.rename(song, name);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") field.value = titleOf(song.record);
    else if (event.key !== "Enter") return;
    event.preventDefault(); // Enter would press the button that gets the focus.
    rename.focus();
  });
}

ui.search.addEventListener("input", render);
onClick({
  starred: () => {
    ui.starred.ariaPressed = ui.starred.ariaPressed === "false";
    render();
  },
  pack: () => saveZip(selected().map(({ record }) => record)),
});
