/** What is asked for: the form, its errors, and the music that a song goes on from. */

import { clock, explain, licenseText, t } from "./i18n.js";
import { onClick, ui } from "./ui.js";

const MORE = ["seed", "temperature", "top_k", "top_p", "cfg_coef"];
const SEEDS = 1e6; // of which one is drawn: short enough to be read out
const NEW = 10; // seconds that a song goes on for, unless one says otherwise

let catalogue = { models: [] };
let source = null; // {blob, position: seconds, prompt, time}
let wanted = null; // a model to be chosen once it is known
let error = null;

/** What is to be kept of each song that is asked for now. */
export function songs() {
  if (!ui.keep.checked || !ui.seed.value) drawSeed();
  const given = ["duration", ...MORE].filter((field) => ui[field].value || ui[field].validity.badInput);
  const numbers = given.map((field) => [field, ui[field].valueAsNumber]);
  const request = { prompt: ui.prompt.value, ...Object.fromEntries(numbers) }, at = Date.now();
  if (ui.model.value) request.model = ui.model.value;
  const count = Number(ui.variations.value);
  return Array.from({ length: count }, (_, i) => ({
    id: `${at}-${i}`, at: at - i, group: at, isVariation: count > 1, format: ui.format.value, license: model()?.license,
    request: { ...request, seed: request.seed + i }, ...source && { source: source.blob, from: source.position },
  }));
}

/** The next song begins as `blob` does, which ends at that second of another. */
export function goOn(request, blob, position) {
  const duration = Math.min(Math.round(position + NEW), ui.duration.max);
  fill({ ...request, duration }, { blob, position, prompt: request.prompt, time: clock(position) });
  ui.keep.checked = false; // The same seed would play the same notes again.
  ui.prompt.focus();
}

/** Shows an error beside its field or at the end of the form, or none (null). */
export function show(wrong) {
  const field = ui[wrong?.field];
  error = wrong;
  ui.form.querySelector("[aria-invalid]")?.removeAttribute("aria-invalid");
  field?.setAttribute("aria-invalid", true);
  field?.setAttribute("aria-errormessage", ui.refusal.id);
  (field ?? ui.form.lastElementChild).after(ui.refusal);
  if (ui.more.contains(field)) ui.more.open = true;
  render();
  field?.focus();
}

/** Writes what depends on the catalogue, the language, the source and the error. */
export function render(models = catalogue) {
  catalogue = models;
  ui.refusal.replaceChildren(...explain(error));
  ui.duration.max = catalogue.max_duration ?? ui.duration.max;
  ui.fader.max = Math.sqrt(ui.duration.max);
  for (const { id, size, channels, state } of catalogue.models) {
    const isDefault = id === catalogue.default;
    const known = [...ui.model.options].find(({ value }) => value === id);
    const option = known ?? ui.model.appendChild(new Option("", id, isDefault, isDefault));
    if (id === wanted) [option.selected, wanted] = [true, null];
    option.textContent = [id, size, channels, t(state)].filter(Boolean).join(" · ");
  }
  ui.note.textContent = model() ? noteOn(model()) : "";
  ui.audio.hidden = !source;
  if (source) ui.audio.firstChild.textContent = t("Goes on from {time} of “{prompt}”", source);
}

const model = () => catalogue.models.find(({ id }) => id === ui.model.value);

function noteOn({ id, license, weights, state, reason }) {
  const words = "Small: it knows piano, organ, guitar, bass, strings, brass, flute, synth and drums.";
  const notes = [state === "unavailable" && reason, licenseText(license), id === "musicgen-tiny" && t(words)];
  if (state === "unloaded" && weights === "missing") notes.push(t("Its first use downloads them."));
  return notes.filter(Boolean).join(" ");
}

function fill({ duration = ui.duration.value, ...request }, from = null) {
  [source, wanted] = [from, request.model];
  for (const field of ["prompt", ...MORE]) ui[field].value = request[field] ?? "";
  ui.format.value = request.format ?? ui.format.value;
  ui.duration.value = duration;
  placeFader();
  ui.keep.checked = "seed" in request;
  if (MORE.some((field) => field in request)) ui.more.open = true;
  render();
}

/** Settings as a card's link holds them. */
function followLink() {
  const settings = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  if (settings.prompt) fill(settings);
}

/** It gives short songs more room. */
function placeFader() {
  const { value } = ui.duration;
  Object.assign(ui.fader, { value: Math.sqrt(value), ariaValueText: value });
}

const drawSeed = () => { ui.seed.value = Math.floor(Math.random() * SEEDS); };

ui.form.addEventListener("input", ({ target }) => {
  if (target === ui.fader) ui.fader.ariaValueText = ui.duration.value = Math.round(target.value ** 2);
  else placeFader();
  if (target === ui.seed) ui.keep.checked = ui.seed.value !== "";
  show(null);
});
ui.form.addEventListener("keydown", ({ key, ctrlKey, metaKey, repeat }) => {
  if (key === "Enter" && (ctrlKey || metaKey) && !repeat) ui.form.requestSubmit();
});
ui.model.addEventListener("change", () => { wanted = null; render(); });
onClick(ui, {
  examples: ({ target: { value } }) => { ui.prompt.value = value || ui.prompt.value; ui.prompt.focus(); },
  dice: () => { drawSeed(); ui.keep.checked = true; },
  scratch: () => { source = null; render(); ui.prompt.focus(); },
});
addEventListener("hashchange", followLink);
placeFader();
followLink();
