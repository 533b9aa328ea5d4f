/** The sections of the chosen take as blocks, which the user can change. */

import * as deck from "./deck.js";
import { describe, makeHandle } from "./handle.js";
import { clock, t } from "./i18n.js";
import { beforeFade } from "./remake.js";
import { durationOf, firstChange, sectionsOf, textOf } from "./sections.js";
import { focusChosen, letterOf, nextTake } from "./takes.js";
import { create, onClick, resize, setText, ui } from "./ui.js";

const NEW_DURATION = 10; // seconds of a section that is added
const MIN_DURATION = 1;

let draft = null; // {take, sections, index} while the user changes them; one is selected

/** The seconds that the timeline shows. */
export function span() {
  return Math.max(deck.chosen?.duration ?? 0, draft ? durationOf(draft.sections) : 0);
}

export function secondsPerPixel() {
  return span() / ui.track.clientWidth;
}

export function render() {
  const take = deck.chosen;
  const isFixed = !take || take.running || !take.record.blob;
  if (draft?.take !== take || isFixed) draft = null;
  const sections = draft?.sections ?? (take ? sectionsOf(take.record) : []);
  resize(ui.blocks, sections.length, newBlock);
  let end = 0;
  for (const [index, { prompt, duration }] of sections.entries()) {
    end += duration;
    const block = ui.blocks.children[index];
    const [button, edge] = block.children;
    block.style.width = `${(100 * duration) / span()}%`;
    setText(button, textOf(prompt));
    button.disabled = isFixed;
    button.ariaPressed = draft?.index === index;
    edge.hidden = isFixed;
    const number = index + 1;
    const label = t(`End of section ${number}`, `Fin de la partie ${number}`);
    describe(edge, label, end, ui.duration.max, clock(end));
  }
  ui.add.disabled = isFixed || ui.duration.max - durationOf(sections) < MIN_DURATION;
  ui.redo.hidden = isFixed;
  renderDraft();
}

function renderDraft() {
  ui.section.hidden = !draft;
  if (!draft) return;
  const { prompt, duration } = draft.sections[draft.index];
  if (document.activeElement !== ui.words) ui.words.value = textOf(prompt);
  if (document.activeElement !== ui.seconds) ui.seconds.value = Number(duration.toFixed(1));
  ui.seconds.max = longest(draft.index);
  const number = draft.index + 1;
  setText(ui.number, t(`Section ${number}`, `Partie ${number}`));
  const letter = letterOf({ record: { take: nextTake() } });
  const from = clock(firstNew());
  const text = t(
    `Make from ${from}, as take ${letter}`,
    `Créer à partir de ${from}, prise ${letter}`,
  );
  setText(ui.remake, text);
}

/** The first second of the draft that the take does not have. */
function firstNew() {
  const old = sectionsOf(draft.take.record);
  return Math.min(firstChange(old, draft.sections), beforeFade(draft.take));
}

/** The seconds that the song has for a section beside the others. */
function longest(index) {
  const others = draft.sections.toSpliced(index, 1);
  return Number((ui.duration.max - durationOf(others)).toFixed(2));
}

function newBlock(index) {
  const button = create("button", { onclick: () => select(index) });
  const edge = create("span", { className: "edge" });
  makeHandle(edge, {
    secondsPerPixel,
    read: () => edit(index).duration,
    write: (duration) => {
      const wanted = Math.min(Math.round(duration * 10) / 10, longest(index));
      edit(index).duration = Math.max(MIN_DURATION, wanted);
      render();
    },
  });
  return create("div", { className: "block" }, button, edge);
}

/** Ends the draft. Returns its take, its sections, and the first second that is new. */
export function endDraft() {
  const ended = [draft.take, draft.sections, firstNew()];
  draft = null;
  render();
  return ended;
}

function select(index) {
  const take = deck.chosen;
  draft ??= { take, sections: sectionsOf(take.record) };
  draft.index = index;
  render();
}

function edit(index) {
  if (draft?.index !== index) select(index);
  return draft.sections[index];
}

ui.section.addEventListener("input", ({ target }) => {
  const section = draft.sections[draft.index];
  if (target === ui.words) section.prompt = target.value;
  else section.duration = Math.max(MIN_DURATION, target.valueAsNumber || section.duration);
  render();
});
onClick({
  add: () => {
    select(0);
    const { sections } = draft;
    const [{ prompt }, index] = [sections.at(-1), sections.length];
    sections.push({ prompt, duration: Math.min(NEW_DURATION, longest(index)) });
    select(index);
    ui.words.select();
  },
  cancelSection: () => {
    endDraft();
    focusChosen();
  },
});
