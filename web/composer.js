/** What is asked for: the form, its errors, and the music that a song goes on from. */

import { clock, explain, licenseText, t } from "./i18n.js";
import { onClick, ui } from "./ui.js";

const MORE = ["seed", "temperature", "top_k", "top_p", "cfg_coef"];
const NUMBERS = ["duration", ...MORE];
const NEW = 10; // seconds that a song goes on for, unless one says otherwise

let catalogue = { models: [] };
let source = null; // {blob, position, prompt}
let wanted = null; // a model to be chosen once it is known
let error = null;

export function setCatalogue(models) {
  catalogue = models;
  render();
}

/** What is to be kept of each song that is asked for now. */
export function songs() {
  if (!ui.keep.checked || !ui.seed.value) drawSeed();
  const isGiven = (field) => field === "duration" || ui[field].value || ui[field].validity.badInput;
  const numbers = NUMBERS.filter(isGiven).map((field) => [field, ui[field].valueAsNumber]);
  const request = { prompt: ui.prompt.value, ...Object.fromEntries(numbers) }, at = Date.now();
  if (ui.model.value) request.model = ui.model.value;
  return Array.from({ length: Number(ui.variations.value) }, (_, i) => ({
    id: `${at}-${i}`, at: at - i, group: at, format: ui.format.value, license: model()?.license,
    request: { ...request, seed: request.seed + i }, ...source && { source: source.blob },
  }));
}

/** The next song begins as `blob` does, which ends at that second of another. */
export function goOn(request, blob, position) {
  source = { blob, position, prompt: request.prompt };
  fill({ ...request, duration: Math.min(Math.round(position + NEW), ui.duration.max) });
  ui.keep.checked = false; // The same seed would play the same notes again.
  ui.prompt.focus();
}

/** Shows an error beside its field or at the end of the form, or none (null). */
export function show(wrong) {
  error = wrong;
  renderError();
  ui[error?.field]?.focus();
}

export function renderError() {
  const field = ui[error?.field];
  ui.form.querySelector("[aria-invalid]")?.removeAttribute("aria-invalid");
  field?.setAttribute("aria-invalid", true);
  field?.setAttribute("aria-errormessage", ui.refusal.id);
  if (field) field.after(ui.refusal);
  else ui.form.append(ui.refusal);
  ui.refusal.replaceChildren(...explain(error));
  if (ui.more.contains(field)) ui.more.open = true;
}

/** Writes what depends on the catalogue, the language and the source. */
export function render() {
  ui.fader.max = ui.duration.max = catalogue.max_duration ?? ui.duration.max;
  for (const { id, size, channels, state } of catalogue.models) {
    const isDefault = id === catalogue.default;
    const known = [...ui.model.options].find(({ value }) => value === id);
    const option = known ?? ui.model.appendChild(new Option("", id, isDefault, isDefault));
    if (id === wanted) [option.selected, wanted] = [true, null];
    option.textContent = [id, size, channels, t(state)].filter(Boolean).join(" · ");
    option.disabled = state === "unavailable" && id !== ui.model.value;
  }
  ui.note.textContent = model() ? noteOn(model()) : "";
  ui.audio.hidden = !source;
  const from = source && { time: clock(source.position), prompt: source.prompt };
  if (from) ui.audio.firstChild.textContent = t("Goes on from {time} of “{prompt}”", from);
}

const model = () => catalogue.models.find(({ id }) => id === ui.model.value);

function noteOn({ id, license, weights, state, reason }) {
  const words = "Small: it knows piano, organ, guitar, bass, strings, brass, flute, synth and drums.";
  const notes = [state === "unavailable" && reason, licenseText(license), id === "musicgen-tiny" && t(words)];
  if (state === "unloaded" && weights === "missing") notes.push(t("Its first use downloads them."));
  return notes.filter(Boolean).join(" ");
}

function fill({ duration = ui.duration.value, ...request }) {
  wanted = request.model;
  for (const field of ["prompt", ...MORE]) ui[field].value = request[field] ?? "";
  ui.duration.value = ui.fader.value = duration;
  ui.keep.checked = "seed" in request;
  if (MORE.some((field) => field in request)) ui.more.open = true;
  render();
}

/** Settings as a card's link holds them. */
function followLink() {
  if (location.hash) fill(Object.fromEntries(new URLSearchParams(location.hash.slice(1))));
}

const drawSeed = () => { ui.seed.value = crypto.getRandomValues(new Uint32Array(1))[0] >>> 1; };

ui.form.addEventListener("input", ({ target }) => {
  if (target === ui.fader) ui.duration.value = target.value;
  if (target === ui.duration) ui.fader.value = target.value;
  if (target === ui.seed) ui.keep.checked = ui.seed.value !== "";
  show(null);
});
ui.form.addEventListener("keydown", ({ key, ctrlKey, metaKey }) => {
  if (key === "Enter" && (ctrlKey || metaKey)) ui.form.requestSubmit();
});
ui.model.addEventListener("change", render);
onClick(ui, {
  examples: ({ target }) => {
    if (target.value) ui.prompt.value = target.value;
    show(null);
    ui.prompt.focus();
  },
  dice: () => { drawSeed(); ui.keep.checked = true; },
  scratch: () => {
    source = null;
    render();
    ui.prompt.focus();
  },
});
addEventListener("hashchange", followLink);
followLink();
