/** The text of an error for the user, by the limits that a field breaks or by its code. */

import { t } from "./i18n.js";
import { durationOfBars } from "./sections.js";
import { ui } from "./ui.js";

const SHOWN_AS = { bars: "duration", loop: "ending", sections: "blocks", text: "prompt" }; // fields by elements
// By codes; the English comes from the server.
const FRENCH = {
  invalid_field: "cette valeur ne convient pas ; changez-la.",
  unauthorized: "Le service demande une clé. Réessayez et saisissez-la.",
  too_many_songs: "Cette clé a déjà trop de morceaux en cours. Attendez la fin de l’un d’eux.",
  too_many_changes: "Ce morceau vient de changer, ou change trop souvent. Attendez un instant.",
  song_ended: "Ce morceau est déjà terminé. Faites-en un autre.",
  unknown_model: "Ce modèle est inconnu ici. Choisissez-en un autre.",
  body_too_large: "C’est trop volumineux. Envoyez un son plus court.",
  queue_full: "Trop de personnes attendent. Réessayez dans un instant.",
  triton_unavailable: "Le moteur musical est arrêté et redémarre. Réessayez dans un instant.",
  model_loading: "Le modèle se charge encore. Réessayez dans un instant.",
  engine_unavailable: "Le moteur du modèle s’est arrêté et redémarre. Réessayez dans un instant.",
  shared_memory_full: "La mémoire du serveur est pleine. Réessayez plus tard.",
  too_slow: "C’était trop long. Demandez un morceau plus court, ou réessayez plus tard.",
  weights_changed: "Les poids du modèle ont changé. Demandez un nouveau morceau.",
  weights_missing:
    "Les poids du modèle manquent et ne peuvent être téléchargés. Choisissez-en un autre.",
  invalid_http: "La requête est illisible ou trop longue. Rechargez la page.",
  invalid_json: "La requête est illisible. Rechargez la page.",
  invalid_form: "Le formulaire est illisible. Rechargez la page.",
  not_found: "Introuvable sur ce service. Rechargez la page.",
  method_not_allowed: "Le service refuse cet appel. Rechargez la page.",
  foreign_origin: "Cette page ne peut pas interroger ce service.",
  internal: "Erreur du serveur ; son journal dit pourquoi. Réessayez.",
  body_too_slow: "La requête est arrivée trop lentement. Réessayez.",
  unsupported_media_type: "Le service ne lit pas ce format. Rechargez la page.",
  expectation_failed: "La requête attend une réponse que le service ne donne pas.",
};

/** @param error {code, message, field, limits} of the server, or {message, french}; or null */
export function errorText(error) {
  if (!error) return "";
  const { code, message, field, limits, french } = error;
  const label = labelOf(field);
  const remedy = limits && remedyOf(limits, field);
  if (remedy) return t(`“${label}”: ${remedy}.`, `« ${label} » : ${remedy}.`);
  const inFrench = french ?? FRENCH[code] ?? FRENCH.internal;
  return t(message, code && label ? `« ${label} » : ${inFrench}` : inFrench);
}

/** The error of a field that the browser finds wrong. */
export function errorOf({ id: field, min, max, step, validity }) {
  if (validity.badInput) return { field, limits: { type: "number" } };
  if (validity.valueMissing) return { field, limits: { minLength: 1 } };
  if (validity.patternMismatch) return { field, limits: { pattern: "" } };
  const type = step !== "any" && "integer";
  return { field, limits: { type, minimum: min, maximum: max } };
}

/** The name that the page gives to a field of the service, such as `sections[1].prompt`. */
function labelOf(field) {
  const name = field?.match(/\w*$/)[0];
  const element = ui[SHOWN_AS[name] ?? name];
  const label = element?.labels?.[0]?.textContent.trim() ?? element?.ariaLabel;
  return label ?? element?.closest("[aria-label]").ariaLabel ?? field;
}

// Remedies by the keywords of JSON schemas.
const REMEDIES = {
  minLength: () => t("write something", "écrivez quelque chose"),
  pattern: () => t("write something else", "écrivez autre chose"),
  maxLength: (most) => t(`write at most ${most} characters`, `écrivez au plus ${most} caractères`),
  maxTokens: () => t("write less", "écrivez moins"),
  maxItems: (most) => t(`give at most ${most}`, `donnez-en au plus ${most}`),
  maxPrompts: () =>
    t(
      "this model takes the same words in all of them",
      "ce modèle prend les mêmes mots pour toutes",
    ),
  excludes: (other) =>
    t(
      `not together with this “${labelOf(other)}”; change one of them`,
      `ne va pas avec ce choix de « ${labelOf(other)} » ; changez l’un des deux`,
    ),
  contentMediaType: () =>
    t(
      "the service hears nothing in it; choose another one",
      "le service n’y entend rien ; choisissez-en un autre",
    ),
};

function remedyOf(limits, field) {
  const keyword = Object.keys(limits).find((name) => name in REMEDIES);
  return keyword ? REMEDIES[keyword](limits[keyword]) : remedyOfNumber(limits, field);
}

function remedyOfNumber({ type, minimum, exclusiveMinimum: above, maximum }, field) {
  if (field === "bars" && maximum) {
    const seconds = Math.floor(durationOfBars(maximum, ui.bpm.value));
    return t(`at this tempo, give at most ${seconds}`, `à ce tempo, entrez au plus ${seconds}`);
  }
  if (type === "integer") {
    return t(
      `give a whole number from ${minimum} to ${maximum}`,
      `entrez un nombre entier de ${minimum} à ${maximum}`,
    );
  }
  if (maximum !== undefined) {
    const least = minimum ?? above;
    return t(`give ${least} to ${maximum}`, `entrez une valeur de ${least} à ${maximum}`);
  }
  if (above !== undefined) return t(`give more than ${above}`, `entrez plus de ${above}`);
  return type && t("this is no number; write one", "ce n’est pas un nombre ; entrez-en un");
}

// The browser's own sentences are in its language, which may not be the page's.
document.addEventListener(
  "invalid",
  ({ target }) => target.setCustomValidity(errorText(errorOf(target))),
  true,
);
// Enter clicks the form's button too.
document.addEventListener(
  "click",
  ({ target }) => {
    for (const field of target.form?.elements ?? []) field.setCustomValidity("");
  },
  true,
);
