/** Songs that this browser keeps. The server keeps none. */

let opened = null;

/** All, the latest first. */
export async function songs() {
  const all = await ask("readonly", (store) => store.getAll());
  return all.sort((one, other) => other.at - one.at);
}

export const keep = (song) => ask("readwrite", (store) => store.put(song));
export const forget = (id) => ask("readwrite", (store) => store.delete(id));

async function ask(mode, question) {
  const opening = () => Object.assign(indexedDB.open("audiocraft-service", 1), {
    onupgradeneeded: ({ target }) => target.result.createObjectStore("songs", { keyPath: "id" }),
  });
  opened ??= answer(opening(), "onsuccess", "onerror");
  const transaction = (await opened).transaction("songs", mode);
  const request = question(transaction.objectStore("songs"));
  await answer(transaction, "oncomplete", "onabort"); // only then it is on the disk
  return request.result;
}

function answer(asked, good, bad) {
  return new Promise((resolve, reject) => {
    asked[good] = () => resolve(asked.result);
    asked[bad] = () => reject(asked.error);
  });
}
