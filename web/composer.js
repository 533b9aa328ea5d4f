/** What is asked for: the form, its errors, and the music that a song goes on from. */

import { requestOf } from "./api.js";
import { errorText, licenseText, seconds, t } from "./i18n.js";

const ui = Object.fromEntries([...document.querySelectorAll("[id]")].map((it) => [it.id, it]));
const NUMBERS = ["seed", "duration", "temperature", "top_k", "top_p", "cfg_coef"];
const FIELDS = ["prompt", "model", "audio", ...NUMBERS];
const MORE = ["seed", "temperature", "top_k", "top_p", "cfg_coef"];
const NEW = 10; // seconds that a song goes on for, unless one says otherwise

export class Composer {
  #catalogue = { models: [] };
  #source = null; // {blob, position, prompt}
  #wanted; // of a model that is not known yet
  #error = null;

  constructor() {
    this.fill(requestOf(location.hash));
    ui.form.addEventListener("input", ({ target }) => {
      if (target === ui.fader) ui.duration.value = target.value;
      if (target === ui.duration) ui.fader.value = target.value;
      if (target === ui.seed) ui.keep.checked = ui.seed.value !== "";
      this.show(null);
    });
    ui.form.addEventListener("keydown", ({ key, ctrlKey, metaKey }) => {
      if (key === "Enter" && (ctrlKey || metaKey)) ui.form.requestSubmit();
    });
    ui.examples.addEventListener("click", ({ target }) => {
      if (!target.value) return;
      ui.prompt.value = target.value;
      this.show(null);
      ui.prompt.focus();
    });
    ui.dice.addEventListener("click", () => {
      ui.seed.value = drawn();
      ui.keep.checked = true;
    });
    ui["source-off"].addEventListener("click", () => {
      this.#source = null;
      this.render();
      ui.prompt.focus();
    });
  }

  /** Settings as of a link, into the form. */
  fill(request) {
    for (const [field, value] of Object.entries(request)) {
      if (field === "model") this.#wanted = value;
      else if (FIELDS.includes(field) && field !== "audio") ui[field].value = value;
    }
    ui.fader.value = ui.duration.value;
    if (request.seed !== undefined) ui.keep.checked = true;
    if (MORE.some((field) => field in request)) ui.more.open = true;
  }

  /** What is kept of each song that is asked for now. */
  songs() {
    if (!ui.keep.checked || !ui.seed.value) ui.seed.value = drawn();
    const given = NUMBERS.filter((field) => ui[field].value !== "" || field === "duration");
    const numbers = Object.fromEntries(given.map((field) => [field, ui[field].valueAsNumber]));
    const base = { prompt: ui.prompt.value, ...ui.model.value && { model: ui.model.value }, ...numbers };
    const at = Date.now();
    return Array.from({ length: Number(ui.variations.value) }, (_, i) => ({
      id: `${at}-${i}`, at: at - i, group: String(at), format: ui.format.value,
      request: { ...base, seed: base.seed + i },
      license: this.#model()?.license,
      ...this.#source && { source: this.#source.blob },
    }));
  }

  goOn(request, blob, position) {
    this.#source = { blob, position, prompt: request.prompt };
    this.fill({ ...request, duration: Math.min(Math.round(position + NEW), ui.duration.max) });
    ui.keep.checked = false; // The same seed would play the same notes again.
    this.render();
    ui.prompt.focus();
  }

  set catalogue(catalogue) {
    this.#catalogue = catalogue;
    this.render();
  }

  /** Shows an error beside its field, if it has one here; whether it has. */
  showBeside(error) {
    const here = FIELDS.includes(error.field);
    if (here) this.show(error);
    return here;
  }

  /** Shows an error beside its field or at the end of the form, or none (null). */
  show(error) {
    this.#error = error;
    const field = FIELDS.find((field) => field === error?.field);
    for (const name of [...FIELDS, "failure"]) {
      const here = error !== null && name === (field ?? "failure");
      ui[`${name}-error`].replaceChildren(...here ? sentences(error) : []);
      ui[name]?.setAttribute("aria-invalid", here);
    }
    ui.failure.hidden = !error || field !== undefined;
    if (MORE.includes(field)) ui.more.open = true;
    ui[field]?.focus();
  }

  render() {
    ui.fader.max = ui.duration.max = this.#catalogue.max_duration ?? ui.duration.max;
    for (const model of this.#catalogue.models) this.#option(model);
    const model = this.#model();
    ui["model-note"].textContent = model ? noteOn(model) : "";
    ui.source.hidden = !this.#source;
    if (this.#source) {
      const { position, prompt } = this.#source;
      ui["source-name"].textContent = t("source", { time: seconds(position), prompt });
    }
    if (this.#error) this.show(this.#error);
  }

  #model() {
    return this.#catalogue.models.find(({ id }) => id === ui.model.value);
  }

  #option({ id, size, channels, state }) {
    const chosen = id === (this.#wanted ?? this.#catalogue.default);
    const known = [...ui.model.options].find(({ value }) => value === id);
    const option = known ?? ui.model.appendChild(new Option("", id, chosen, chosen));
    option.textContent = [id, size, channels, t(state)].filter(Boolean).join(" · ");
    option.disabled = state === "unavailable" && id !== ui.model.value;
  }
}

function noteOn({ id, license, weights, state, reason }) {
  return [
    state === "unavailable" && reason,
    licenseText(license),
    id === "musicgen-tiny" && t("tinyWords"),
    state === "unloaded" && weights === "missing" && t("missing"),
  ].filter(Boolean).join(" ");
}

function sentences({ code, message }) {
  const detail = { lang: "en", textContent: message };
  return [errorText(code), Object.assign(document.createElement("small"), detail)];
}

function drawn() {
  return crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
}
