/** The composer: the form for the next songs, and the errors of its fields. */

import { licenseText, t } from "./i18n.js";
import * as reference from "./reference.js";
import { errorOf, errorText } from "./refusals.js";
import { durationOf, durationOfBars, sectionsOf } from "./sections.js";
import { amountOf } from "./takes.js";
import { load, newId, newSeed, onClick, save, setText, ui } from "./ui.js";
import { renderExamples, renderWords } from "./words.js";

const OTHERS = ["file", "button", "submit"]; // types of elements that hold no setting
const ADVANCED_FIELDS = ["seed", "temperature", "top_k", "top_p", "cfg_coef"];

let catalogue = { models: [] };
let modelId = null; // of the model that the user has chosen, which the catalogue may lack
let error = null;

/**
 * The records (see Generation) of the songs that the form requests: one per take. None if its audio
 * is refused.
 */
export async function createRecords() {
  const audio = await reference.readReference();
  if (error) return [];
  if (!ui.keep.checked || !ui.seed.value) drawSeed();
  const request = readRequest();
  if (audio?.role === "melody") request.separate = ui.separate.checked;
  const now = Date.now();
  const common = {
    group: newId(),
    duration: durationOf(sectionsOf({ request })),
    license: selectedModel()?.license,
    ...(audio && { files: { [audio.role]: audio.file } }),
  };
  return Array.from({ length: Number(ui.variations.value) }, (_, index) => ({
    ...common,
    id: newId(),
    take: index,
    at: now - index, // The shelf sorts by this, newest first.
    request: { ...request, seed: request.seed + index },
  }));
}

/** The error of a field that holds no number, or one out of its range; or null. */
export function findError() {
  const field = ui.form.querySelector("input:invalid");
  return field && errorOf(field);
}

/** Shows an error beside its field or at the end of the form; null removes it. */
export function showError(newError) {
  error = newError;
  const field = ui[error?.field];
  ui.form.querySelector("[aria-invalid]")?.removeAttribute("aria-invalid");
  field?.setAttribute("aria-invalid", true);
  field?.setAttribute("aria-errormessage", ui.refusal.id);
  (field ?? ui.form.lastElementChild).after(ui.refusal);
  for (const details of [ui.settings, ui.more]) details.open ||= details.contains(field);
  render();
  field?.focus();
}

export function setCatalogue(newCatalogue) {
  catalogue = newCatalogue;
  renderModels();
  render();
}

export function render() {
  ui.prompt.placeholder = t(
    "What should it sound like? Instruments, mood, style, tempo.",
    "Quelle musique ? En anglais : instruments, ambiance, tempo.",
  );
  ui.refusal.textContent = errorText(error);
  ui.summary.textContent = `${ui.model.value} · ${ui.duration.value} s · × ${ui.variations.value}`;
  ui.duration.max = catalogue.max_duration ?? ui.duration.max;
  ui.fader.max = Math.sqrt(ui.duration.max);
  ui.fader.ariaValueText = ui.duration.value;
  const model = selectedModel();
  setText(ui.note, model ? modelNote(model) : "");
  const isUnavailable = model?.state === "unavailable";
  ui.reason.hidden = !isUnavailable;
  setText(ui.cause, isUnavailable ? (model.reason ?? "") : "");
  renderWords(model);
  renderExamples();
  const isHere = ({ melody, weights }) => melody && weights !== "missing";
  const { id } = catalogue.models.find(isHere) ?? {};
  reference.renderReference(model, id);
  ui.steerable.hidden = model?.melody; // Its text and melody hold for the whole song.
}

export function renderModels() {
  const { models } = catalogue;
  const selected = models.some(({ id }) => id === modelId) ? modelId : catalogue.default;
  const states = {
    unloaded: t("unloaded", "pas encore chargé"),
    loading: t("loading", "en chargement"),
    ready: t("ready", "prêt"),
    unavailable: t("unavailable", "indisponible"),
  };
  const options = models.map(({ id, size, channels, state }) => {
    const text = [id, size, channels, states[state]].filter(Boolean).join(" · ");
    return new Option(text, id, false, id === selected);
  });
  ui.model.replaceChildren(...options);
}

function selectedModel() {
  return catalogue.models.find(({ id }) => id === ui.model.value);
}

function modelNote({ id, license, weights, state, progress, download }) {
  const amount = progress?.bytes && amountOf(progress);
  const size = download / 1e9;
  const isMissing = state === "unloaded" && weights === "missing";
  const notes = [
    state === "unavailable" &&
      t(
        "This model can’t be used now. Choose another one.",
        "Ce modèle est inutilisable pour l’instant. Choisissez-en un autre.",
      ),
    amount && t(`Its weights are downloaded: ${amount}.`, `Téléchargement : ${amount}.`),
    licenseText(license),
    id.startsWith("musicgen-tiny") &&
      t(
        "Small: it knows piano, organ, guitar, bass, strings, brass, flute, synth and drums.",
        "Petit : il connaît piano, orgue, guitare, basse, cordes, cuivres, flûte, synthé et batterie.",
      ),
    isMissing && t("Its first use downloads them.", "La première utilisation les téléchargera."),
    isMissing && size && t(`Up to ${size} GB.`, `Jusqu’à ${size} Go.`),
  ];
  return notes.filter(Boolean).join(" ");
}

function readRequest() {
  const request = { prompt: promptOf(ui) };
  for (const name of ["duration", ...ADVANCED_FIELDS]) {
    if (ui[name].value) request[name] = ui[name].valueAsNumber;
  }
  if (ui.model.value) request.model = ui.model.value;
  const isLoop = ui.ending.value === "loop"; // Such a song cannot be changed.
  if (ui.steered.checked && !ui.steerable.hidden && !isLoop) request.pace = "playback";
  if (ui.ending.value === "fade") request.ending = "fade";
  if (isLoop) request.loop = true;
  return request.loop && ui.bpm.value ? withBars(request) : request;
}

function promptOf({ prompt, bpm, mode }) {
  const tempo = bpm.value && !/\bbpm\b/i.test(prompt.value) && `${bpm.value} bpm`;
  return [prompt.value, tempo, mode.value].filter(Boolean).join(", ");
}

/** A loop is as long as whole bars. */
function withBars({ duration, ...request }) {
  const bpm = ui.bpm.valueAsNumber;
  return { ...request, bpm, bars: Math.max(1, Math.round(duration / durationOfBars(1, bpm))) };
}

/** Fills the form from a link to a song's request, or as it was before a reload. */
function restore() {
  const request = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const values = request.prompt ? valuesOf(request) : (load("draft") ?? {});
  for (const field of keptFields()) {
    if (values[field.id] !== undefined) field[kindOf(field)] = values[field.id];
  }
  modelId = values.model;
  renderModels();
  ui.more.open ||= ADVANCED_FIELDS.some((name) => values[name]);
  moveFader();
  render();
}

function valuesOf({ loop, ending = "cut", pace, bars, bpm = "", duration, ...request }) {
  return {
    ...Object.fromEntries(ADVANCED_FIELDS.map((name) => [name, ""])),
    ...request,
    bpm,
    mode: "",
    duration: bars ? durationOfBars(bars, bpm) : duration,
    ending: loop ? "loop" : ending,
    steered: pace === "playback",
    keep: "seed" in request,
  };
}

function saveDraft() {
  const values = keptFields().map((field) => [field.id, field[kindOf(field)]]);
  save("draft", Object.fromEntries(values));
}

function keptFields() {
  return [...ui.form.elements].filter(({ id, type }) => id && !OTHERS.includes(type));
}

function kindOf({ type }) {
  return type === "checkbox" ? "checked" : "value";
}

/** Moves the fader to the duration. Its scale is the square root, so short songs get more room. */
function moveFader() {
  ui.fader.value = Math.sqrt(ui.duration.value);
}

function drawSeed() {
  ui.seed.value = newSeed();
}

ui.form.addEventListener("input", ({ target }) => {
  if (target === ui.fader) ui.duration.value = Math.round(ui.fader.value ** 2);
  else moveFader();
  if (target === ui.seed) ui.keep.checked = ui.seed.value !== "";
  saveDraft();
  showError(null);
});
ui.form.addEventListener("keydown", ({ key, ctrlKey, metaKey, repeat }) => {
  if (key === "Enter" && (ctrlKey || metaKey) && !repeat) ui.form.requestSubmit();
});
ui.model.addEventListener("change", () => {
  modelId = ui.model.value;
  render();
});
onClick({
  examples: ({ target }) => {
    if (!target.value) return;
    ui.prompt.value = target.value;
    saveDraft();
    render();
    ui.prompt.focus();
  },
  dice: () => {
    drawSeed();
    ui.keep.checked = true;
  },
});
reference.watch(showError);
addEventListener("hashchange", restore);
ui.settings.open = matchMedia("(min-width: 44rem)").matches; // Wide screens show no summary.
restore();
