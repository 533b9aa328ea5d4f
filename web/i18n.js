/** The texts of the page in English and French. The English text is the key of its French one. */

import { load, save, ui } from "./ui.js";

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

/** The nodes that tell the user about an error; none for null. */
export function errorNodes(error) {
  if (!error) return [];
  const { code, field, message } = error;
  const { labels, min, max } = ui[field] ?? {};
  const isRange = code === "invalid_field" && min && max && message.startsWith(`${field} is`);
  if (labels?.[0] && isRange) {
    const label = labels[0].textContent; // The field's name on the page.
    return [t("{label}: give {min} to {max}.", { label, min, max })];
  }
  if (language !== "fr" || message in french.FRENCH) return [t(message)];
  const original = document.createElement("small");
  original.lang = "en";
  original.textContent = message;
  return [french.FRENCH_ERRORS[code] ?? french.FRENCH_ERRORS.internal, original];
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
