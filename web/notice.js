/** A line above the transport: what has just happened, and for ten seconds a way back. */

import { t } from "./i18n.js";
import { create, ui } from "./ui.js";

const LIFETIME_MS = 10_000;

let timer = 0;

export function show(text, undo) {
  const onclick = () => {
    ui.notice.replaceChildren();
    undo();
  };
  ui.notice.replaceChildren(text);
  if (undo) ui.notice.append(create("button", { onclick }, t("Undo", "Annuler")));
  waitToHide();
}

function waitToHide() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (ui.notice.matches(":hover, :focus-within")) waitToHide();
    else ui.notice.replaceChildren();
  }, LIFETIME_MS);
}
