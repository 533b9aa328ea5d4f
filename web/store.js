/** The songs that this browser keeps: their records (see Generation). Its tabs share them. */

import { createStore, delMany, set, setMany, values } from "./vendor/idb-keyval.js";

const songs = createStore("audiocraft", "songs"); // The server stores no songs.
const tabs = new BroadcastChannel("songs");

/** All records, the newest first; none where the browser stores nothing. */
export async function load() {
  const records = await inStore(values).catch(() => []);
  return records.sort((a, b) => b.at - a.at);
}

/** Keeps a record, or its changes. Rejects where there is no room for it. */
export async function save(record) {
  await inStore(set, record.id, record);
  tabs.postMessage({ saved: [record] });
}

/** Deletes records. Resolves to a function that brings them back, and rejects as `save`. */
export async function remove(records) {
  const ids = records.map(({ id }) => id);
  await inStore(delMany, ids);
  tabs.postMessage({ removed: ids });
  return async () => {
    await inStore(
      setMany,
      records.map((record) => [record.id, record]),
    );
    tabs.postMessage({ saved: records });
  };
}

/** Calls back with {saved: records} or {removed: ids} when another tab has done so. */
export function subscribe(callback) {
  tabs.addEventListener("message", ({ data }) => callback(data));
}

/** Runs an operation of idb-keyval. Rejects also where the browser has no IndexedDB. */
async function inStore(operation, ...args) {
  return operation(...args, songs);
}
