/** A line above the transport: what has just happened, and for ten seconds a way back. */

import { t } from "./i18n.js";
import { create, ui } from "./ui.js";

const LIFETIME_MS = 10_000;

let timer = 0;

export function show(text, undo) {
  ui.notice.replaceChildren(text);
  if (undo) {
    const button = create("button", {}, t("Undo", "Annuler"));
    button.addEventListener("click", () => {
      ui.notice.replaceChildren();
      undo();
    });
    ui.notice.append(button);
  }
  waitToHide();
}

function waitToHide() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (ui.notice.matches(":hover, :focus-within")) waitToHide();
    else ui.notice.replaceChildren();
  }, LIFETIME_MS);
}
