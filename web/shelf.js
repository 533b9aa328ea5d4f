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
  const request = () => indexedDB.open("audiocraft-service", 1);
  opened ??= answer(Object.assign(request(), {
    onupgradeneeded: ({ target }) => target.result.createObjectStore("songs", { keyPath: "id" }),
  }));
  return answer(question((await opened).transaction("songs", mode).objectStore("songs")));
}

function answer(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
