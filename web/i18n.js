/** The texts of the page in English and French. The English text is the key of its French one. */

import { load, save, ui } from "./ui.js";

const SHOWN_AS = { bars: "duration", sections: "blocks", text: "prompt" }; // fields by elements

let language = load("language") ?? navigator.language.slice(0, 2);
let french = null; // the module of the French texts
await loadTexts(language);

export async function switchLanguage() {
  const other = language === "fr" ? "en" : "fr";
  save("language", other);
  await loadTexts(other); // The page is drawn meanwhile.
  language = other;
}

async function loadTexts(wanted) {
  if (wanted === "fr") french ??= await import("./french.js");
}

/** The text in the current language, with its {names} replaced from `values`. */
export function t(text, values = {}) {
  const translated = (language === "fr" && french.FRENCH[text]) || text;
  return translated.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** What an error tells the user: by the limits of its field, or by its code; nothing for null. */
export function errorText(error) {
  if (!error) return "";
  const { code, field, message, limits } = error;
  const values = { ...limits, label: labelOf(field) };
  const text = limits && limitText(limits);
  if (text) return t(text, values);
  return t((language === "fr" && french.FRENCH_ERRORS[code]) || message, values);
}

/** The name that the page gives to a field of the service, such as `sections[1].prompt`. */
function labelOf(field) {
  const name = field?.match(/\w*$/)[0];
  const element = ui[SHOWN_AS[name] ?? name];
  const label = element?.labels?.[0]?.textContent.trim() ?? element?.ariaLabel;
  return label ?? element?.closest("[aria-label]").ariaLabel ?? field;
}

/** The text for limits by the keywords of JSON schemas; none for other keywords. */
function limitText({ minLength, maxLength, maxTokens, maxItems, type, ...range }) {
  if (minLength) return "“{label}” is empty: write something.";
  if (maxTokens) return "“{label}” is too long: shorten it.";
  if (maxLength) return "“{label}” is too long: write at most {maxLength} characters.";
  if (maxItems) return "“{label}”: give at most {maxItems}.";
  if (type === "integer") return "“{label}”: give a whole number from {minimum} to {maximum}.";
  if ("minimum" in range) return "“{label}”: give {minimum} to {maximum}.";
  if ("maximum" in range) return "“{label}”: give more than {exclusiveMinimum}, at most {maximum}.";
  if ("exclusiveMinimum" in range) return "“{label}”: give more than {exclusiveMinimum}.";
}

export function licenseText(license) {
  const isNonCommercial = license.includes("-NC-");
  const text = isNonCommercial ? "Weights: {license}, non-commercial." : "Weights: {license}.";
  return t(text, { license: license.replace(/-(\d)/, " $1") });
}

/** Seconds as minutes and seconds: 75 is "1:15". */
export function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  const rest = Math.floor(seconds % 60);
  return `${minutes}:${String(rest).padStart(2, "0")}`;
}

/** A day, or an hour of today. */
export function formatDate(at) {
  const date = new Date(at);
  const isToday = date.toDateString() === new Date().toDateString();
  const form = isToday ? { timeStyle: "short" } : { dateStyle: "medium" };
  return date.toLocaleString(language, form);
}

/** Sets the texts and labels below `root` to the current language. */
export function translate(root) {
  document.documentElement.lang = language === "fr" ? "fr" : "en";
  for (const element of root.querySelectorAll("[data-t]")) {
    element.dataset.t ||= element.textContent; // the English text
    element.textContent = t(element.dataset.t);
  }
  for (const element of root.querySelectorAll("[aria-label]")) {
    element.dataset.label ??= element.ariaLabel;
    element.ariaLabel = t(element.dataset.label);
  }
}
