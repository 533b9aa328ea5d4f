/** The key, where the service asks for one: kept as long as the tab, asked for when it is missing. */

import { t } from "./i18n.js";

const dialog = document.querySelector("#access");
const input = dialog.querySelector("input");
let key = remembered();
let asking = null; // One dialog for all who meet a refusal at a time.

/** fetch, with the key. A 401 comes back only where nobody gives one. */
export async function fetchWithKey(path, init = {}) {
  for (;;) {
    const shown = key;
    const headers = { ...init.headers, ...(shown && { Authorization: `Bearer ${shown}` }) };
    const response = await fetch(path, { ...init, headers });
    if (response.status !== 401) return response;
    if (shown === key && !(await (asking ??= ask(shown !== null)))) return response;
  }
}

/** Whether a key was given. */
function ask(wrong) {
  dialog.querySelector(".error").textContent = wrong ? t("wrongKey") : "";
  input.value = dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      asking = null;
      if (dialog.returnValue) remember(input.value);
      resolve(Boolean(dialog.returnValue));
    }, { once: true });
  });
}

function remember(given) {
  key = given;
  try {
    sessionStorage.setItem("key", given);
  } catch { /* Without storage it lasts as long as the page. */ }
}

function remembered() {
  try {
    return sessionStorage.getItem("key");
  } catch {
    return null;
  }
}
