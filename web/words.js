/** The words of the prompt that musicgen-tiny does not know, underlined and named. */

import { t } from "./i18n.js";
import { create, setText, ui } from "./ui.js";
import { VOCABULARY } from "./vocabulary.js";

const WORD = /(\p{L}+)/u;

/** Marks the unknown words of the prompt, if it is for such a model. */
export function renderWords(model) {
  const isTiny = model?.id.startsWith("musicgen-tiny");
  const parts = ui.prompt.value.split(WORD); // Every second one is a word.
  const isUnknown = (part, index) => isTiny && index % 2 && !VOCABULARY.has(part.toLowerCase());
  const nodes = parts.map((part, index) =>
    isUnknown(part, index) ? create("mark", {}, part) : part,
  );
  ui.marks.replaceChildren(...nodes, "\n"); // A line break at the end has a height.
  const unknown = [...new Set(parts.filter(isUnknown))].join(", ");
  setText(ui.unknown, unknown && t("{id} does not know: {unknown}", { ...model, unknown }));
}
