/** The songs that this browser keeps: their records (see Generation). Its tabs share them. */

import { createStore, delMany, get, promisifyRequest, values } from "./vendor/idb-keyval.js";

const songs = createStore("audiocraft", "songs"); // The server stores no songs.
const tabs = new BroadcastChannel("songs");

/** All records; none where the browser stores nothing. */
export function load() {
  return inStore(values).catch(() => []);
}

/** The record with this id; undefined if it is deleted. */
export function find(id) {
  return inStore(get, id);
}

/**
 * Keeps a new record; or its changes, unless another tab has deleted it meanwhile. Rejects where
 * there is no room.
 */
export async function save(record, changes = record) {
  await inStore(put, record, changes);
  record.isKept = true;
  tabs.postMessage({ saved: record.id });
}

export async function remove(ids) {
  await inStore(delMany, ids).catch(() => {});
  tabs.postMessage({ removed: ids });
}

/** Calls back with {saved: id} or {removed: ids} when another tab has done so. */
export function subscribe(callback) {
  tabs.addEventListener("message", ({ data }) => callback(data));
}

function put(record, changes, store) {
  return store("readwrite", (records) => {
    records.get(record.id).onsuccess = ({ target: { result } }) => {
      const base = result ?? (record.isKept ? null : record);
      if (base) records.put({ ...base, ...changes, isKept: true }, record.id);
    };
    return promisifyRequest(records.transaction);
  });
}

/** Runs an operation of idb-keyval. Rejects also where the browser has no IndexedDB. */
async function inStore(operation, ...args) {
  return operation(...args, songs);
}
