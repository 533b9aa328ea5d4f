/** Songs that this browser keeps. The server keeps none. */

let opened = null;

/** All, the latest first. */
export async function songs() {
  const all = await request("readonly", (store) => store.getAll());
  return all.sort((one, other) => other.at - one.at);
}

export function keep(song) {
  return request("readwrite", (store) => store.put(song));
}

export function forget(id) {
  return request("readwrite", (store) => store.delete(id));
}

export function forgetAll() {
  return request("readwrite", (store) => store.clear());
}

async function request(mode, ask) {
  opened ??= promise(Object.assign(indexedDB.open("audiocraft-service", 1), {
    onupgradeneeded: ({ target }) => target.result.createObjectStore("songs", { keyPath: "id" }),
  }));
  const database = await opened;
  return promise(ask(database.transaction("songs", mode).objectStore("songs")));
}

function promise(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
