/** The API key: asked for when the service refuses a call, and kept as long as the tab. */

import { t } from "./i18n.js";
import { load, save, ui } from "./ui.js";

let key = load("key", "sessionStorage");
let openDialog = null; // its promise, which all refused calls wait for

/** fetch, with the key. Returns a 401 response only if the user closes the dialog without a key. */
export async function fetchWithKey(path, init = {}) {
  for (;;) {
    const usedKey = key;
    const headers = { ...init.headers };
    if (usedKey) headers.Authorization = `Bearer ${usedKey}`;
    const response = await fetch(path, { ...init, headers });
    if (response.status !== 401) return response;
    if (usedKey !== key) continue; // The user has entered another key meanwhile.
    openDialog ??= askForKey();
    const isEntered = await openDialog;
    if (!isEntered) return response;
  }
}

/** Resolves to whether the user entered a key. */
async function askForKey() {
  ui.asks.textContent = key
    ? t("This key isn’t known here.", "Cette clé est inconnue ici.")
    : t("This service asks for a key", "Ce service demande une clé");
  ui.key.value = "";
  ui.access.returnValue = "";
  ui.access.showModal();
  await new Promise((resolve) => {
    ui.access.onclose = resolve;
  });
  openDialog = null;
  if (!ui.access.returnValue) return false;
  key = ui.key.value;
  save("key", key, "sessionStorage");
  return true;
}
