/** The language of the page: English or French. */

import { load, save } from "./ui.js";

let language = load("language") ?? navigator.language.slice(0, 2);

export function switchLanguage() {
  language = language === "fr" ? "en" : "fr";
  save("language", language);
}

/** The text in the language of the page. No line begins with « : ». */
export function t(english, french) {
  return language === "fr" ? french.replace(/ (?=[:;?!»])|(?<=«) /g, "\u00a0") : english;
}

export function licenseText(license) {
  const name = license.replace(/-(\d)/, " $1");
  const limit = license.includes("-NC-") ? t(", non-commercial", ", non commercial") : "";
  return `${t("Weights:", "Poids :")} ${name}${limit}.`;
}

/** A time within a song: "0:03 of 0:10". */
export function timeOf(time, duration) {
  return `${time} ${t("of", "sur")} ${clock(duration)}`;
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
  return date.toLocaleString(t("en", "fr"), form);
}

export function translate() {
  document.documentElement.lang = t("en", "fr");
  for (const element of document.querySelectorAll("[data-fr]")) {
    const property = element.ariaLabel === null ? "textContent" : "ariaLabel";
    element.dataset.en ??= element[property];
    element[property] = t(element.dataset.en, element.dataset.fr);
  }
}
