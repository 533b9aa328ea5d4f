/** The songs of the page: generations, the newest first. */

import { Generation } from "./generation.js";
import * as store from "./store.js";

export let all = [];
let onChange = () => {};

/** Calls back when songs are added, and with one that changes. */
export function watch(callback) {
  onChange = callback;
}

export function add(records) {
  const added = records.map((record) => new Generation(record));
  for (const song of added) {
    song.addEventListener("change", () => all.includes(song) && onChange(song));
    song.addEventListener("save", () => {
      const { isStarred, name, ...made } = song.record; // Another tab may change these.
      song.saved = save(song, made);
    });
  }
  all = [...added, ...all].sort((a, b) => b.record.at - a.record.at);
  onChange();
  return added;
}

/** Stores a song, or its changes; its `refusal` is the error of a browser that does not. */
export async function save(song, changes) {
  if (!all.includes(song)) return; // It is deleted.
  const refusal = store.save(song.record, changes).catch((error) => error);
  onChange(song);
  song.refusal = await refusal;
  onChange(song);
}

export function star(song) {
  change(song, { isStarred: !song.record.isStarred });
}

/** Gives a song a name; without one, its title is the prompt. */
export function rename(song, name) {
  change(song, { name: name || undefined });
}

function change(song, changes) {
  Object.assign(song.record, changes);
  save(song, changes);
}

/** Takes songs off the page, and returns them. Those that are made now are cancelled. */
export function drop(ids) {
  const gone = all.filter(({ record }) => ids.includes(record.id));
  all = all.filter((song) => !gone.includes(song));
  for (const song of gone) song.cancel();
  return gone;
}

export function takesOf(song) {
  const group = all.filter(({ record }) => record.group === song.record.group);
  return group.sort((a, b) => a.record.take - b.record.take);
}
