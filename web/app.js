import { fetchModels, generate } from "./api.js";
import { errorText, language, megabytes, switchLanguage, t } from "./i18n.js";
import { Player } from "./player.js";

const POLL_MS = 1000;
const FIELDS = ["prompt", "model", "duration"];
const ui = Object.fromEntries([...document.querySelectorAll("[id]")].map((it) => [it.id, it]));
const player = new Player(ui.player);

// `phase` is the name of the text shown, or null; `job` aborts the running request.
const state = { phase: null, job: null, startedAt: 0, progress: null, error: null };
let catalogue = { models: [] };

async function compose() {
  if (state.job) return;
  const request = {
    model: ui.model.value || undefined,
    prompt: ui.prompt.value,
    duration: ui.duration.valueAsNumber,
  };
  const job = new AbortController();
  Object.assign(state, { job, error: null, startedAt: Date.now() });
  renderElapsed();
  const clock = setInterval(renderElapsed, 250);
  watchModel(request.model, job.signal);
  try {
    player.show(await generate(request, job.signal), request.prompt);
    state.phase = "done";
  } catch (error) {
    if (job.signal.aborted) state.phase = "cancelled";
    else Object.assign(state, { phase: null, error });
  }
  job.abort();
  clearInterval(clock);
  state.job = null;
  if (document.activeElement === ui.cancel) ui.generate.focus();
  render();
  ui[fieldOf(state.error)]?.focus();
  if (state.error?.code === "unauthorized") return;  // and would ask for a key again
  catalogue = await fetchModels().catch(() => catalogue);
  renderModels();
}

/** Polls until the model is ready or the job over; a failure is the job's own to tell. */
async function watchModel(id, signal) {
  let latest = null;
  while (!signal.aborted) {
    catalogue = latest ?? catalogue;
    const model = modelNamed(id);
    state.phase = model?.state === "ready" ? "generating" : "loadingModel";
    state.progress = model?.progress;
    render();
    if (latest && state.phase === "generating") return;
    if (latest) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    latest = await fetchModels(signal).catch(() => catalogue);
  }
}

async function loadModels() {
  state.error = null;
  try {
    catalogue = await fetchModels();
  } catch (error) {
    state.error = error;
  }
  render();
}

function modelNamed(id = catalogue.default) {
  return catalogue.models.find((model) => model.id === id);
}

function fieldOf(error) {
  return FIELDS.find((field) => field === error?.field);
}

function render() {
  renderModels();
  renderWork();
  renderError();
}

function renderTexts() {
  document.documentElement.lang = language;
  for (const it of document.querySelectorAll("[data-t]")) it.textContent = t(it.dataset.t);
  for (const it of document.querySelectorAll("[data-t-label]")) it.ariaLabel = t(it.dataset.tLabel);
}

function renderModels() {
  ui.fader.max = ui.duration.max = catalogue.max_duration ?? ui.duration.max;
  for (const { id, state: condition } of catalogue.models) {
    const chosen = id === catalogue.default;
    const known = [...ui.model.options].find(({ value }) => value === id);
    const option = known ?? ui.model.appendChild(new Option("", id, chosen, chosen));
    option.textContent = `${id} · ${t(condition)}`;
  }
  const model = modelNamed(ui.model.value);
  ui["model-note"].textContent = model ? noteOn(model) : "";
}

function noteOn({ id, license, weights, state: condition, reason }) {
  const named = { license: license.replace(/-(\d)/, " $1") };
  return [
    condition === "unavailable" && reason,
    t(license.includes("-NC-") ? "noncommercial" : "license", named),
    id === "musicgen-tiny" && t("tinyWords"),
    condition === "unloaded" && weights === "missing" && t("missing"),
  ].filter(Boolean).join(" ");
}

function renderWork() {
  const { phase, job, progress } = state;
  ui.generate.ariaDisabled = job !== null;
  for (const name of ["cancel", "progress", "elapsed"]) ui[name].hidden = job === null;
  const text = phase ? t(phase) : "";
  if (ui.status.textContent !== text) ui.status.textContent = text; // A rewrite is read out again.

  const { bytes = 0, total_bytes: total } = (phase === "loadingModel" && progress) || {};
  ui.bytes.textContent = bytes ? [bytes, total].filter(Boolean).map(megabytes).join(" / ") : "";
  if (bytes && total) Object.assign(ui.progress, { max: total, value: bytes });
  else ui.progress.removeAttribute("value");
}

function renderElapsed() {
  ui.elapsed.textContent = new Date(Date.now() - state.startedAt).toISOString().slice(14, 19);
}

function renderError() {
  const { error } = state;
  const place = error && (fieldOf(error) ?? "failure");
  for (const name of [...FIELDS, "failure"]) {
    ui[`${name}-error`].replaceChildren(...(name === place ? sentencesOf(error) : []));
  }
  for (const field of FIELDS) ui[field].ariaInvalid = field === place;
  ui.failure.hidden = place !== "failure";
}

function sentencesOf({ code, message }) {
  const detail = { lang: "en", textContent: message };
  return [errorText(code), Object.assign(document.createElement("small"), detail)];
}

ui.form.addEventListener("submit", (event) => {
  event.preventDefault();
  compose();
});
ui.form.addEventListener("keydown", ({ key, ctrlKey, metaKey }) => {
  if (key === "Enter" && (ctrlKey || metaKey)) ui.form.requestSubmit();
});
ui.form.addEventListener("input", ({ target }) => {
  if (target === ui.fader) ui.duration.value = target.value;
  if (target === ui.duration) ui.fader.value = target.value;
  if (fieldOf(state.error)) state.error = null;
  render();
});
ui.examples.addEventListener("click", ({ target }) => {
  if (!target.value) return;
  ui.prompt.value = target.value;
  ui.prompt.dispatchEvent(new Event("input", { bubbles: true }));
  ui.prompt.focus();
});
ui.cancel.addEventListener("click", () => state.job?.abort());
ui.retry.addEventListener("click", () => {
  ui.generate.focus(); // The button pressed is about to vanish, and the focus with it.
  (catalogue.models.length ? compose : loadModels)();
});
ui.language.addEventListener("click", () => {
  switchLanguage();
  renderTexts();
  render();
});

renderTexts();
loadModels();
