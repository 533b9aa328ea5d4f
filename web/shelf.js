/** The shelf: a row for each song that the browser keeps. */

import { clock } from "./i18n.js";
import { titleOf } from "./sections.js";
import { create, ui } from "./ui.js";

let open = () => {};

/** Calls back with the song whose row is chosen. */
export function watch(callback) {
  open = callback;
}

export function render(songs) {
  ui.songs.replaceChildren(...songs.map(createRow));
}

function createRow(song) {
  const button = create("button", { type: "button", className: "title" }, titleOf(song.record));
  button.addEventListener("click", () => open(song));
  return create("li", {}, button, create("span", { className: "time" }, clock(song.duration)));
}
