/** The key, where the service asks for one: kept as long as the tab, asked for when it is missing. */

import { t } from "./i18n.js";
import { memory, ui } from "./ui.js";

let key = memory("sessionStorage", "key");
let asking = null; // One dialog for all who meet a refusal at a time.

/** fetch, with the key. A 401 comes back only where nobody gives one. */
export async function fetchWithKey(path, init = {}) {
  for (;;) {
    const shown = key;
    const headers = { ...init.headers, ...(shown && { Authorization: `Bearer ${shown}` }) };
    const response = await fetch(path, { ...init, headers });
    if (response.status !== 401) return response;
    if (shown === key && !(await (asking ??= ask()))) return response;
  }
}

/** Whether a key was given. */
function ask() {
  ui.asks.textContent = t(key ? "This key isn’t known here." : "This service asks for a key");
  ui.key.value = ui.access.returnValue = "";
  ui.access.showModal();
  return new Promise((resolve) => {
    ui.access.onclose = () => {
      asking = null;
      if (ui.access.returnValue) key = memory("sessionStorage", "key", ui.key.value);
      resolve(ui.access.returnValue !== "");
    };
  });
}
