/** Every text of the page, in English and French, and which of the two is spoken. */

const LANGUAGES = ["en", "fr"];

const texts = {
  otherLanguage: ["Français", "English"],
  prompt: ["What should it sound like?", "Quelle musique imaginez-vous ?"],
  promptHint: ["Instruments, mood, style, tempo.", "En anglais : instruments, ambiance, tempo."],
  examples: ["Examples", "Exemples"],
  piano: ["Calm piano", "Piano calme"],
  synthwave: ["Synthwave", "Synthwave"],
  brass: ["Epic brass", "Cuivres épiques"],
  flute: ["Sad flute", "Flûte triste"],
  source: ["Goes on from {time} of “{prompt}”", "Continue « {prompt} » à {time}"],
  sourceOff: ["From scratch", "Partir de zéro"],
  model: ["Model", "Modèle"],
  unloaded: ["not loaded", "pas encore chargé"],
  ready: ["ready", "prêt"],
  unavailable: ["unavailable", "indisponible"],
  license: ["Weights: {license}.", "Poids : {license}."],
  noncommercial: ["Weights: {license}, non-commercial.", "Poids : {license}, non commercial."],
  tinyWords: [
    "Small: it knows piano, organ, guitar, bass, strings, brass, flute, synth and drums.",
    "Petit : il connaît piano, orgue, guitare, basse, cordes, cuivres, flûte, synthé et batterie.",
  ],
  missing: ["Its first use downloads them.", "La première utilisation les télécharge."],
  duration: ["Duration", "Durée"],
  fader: ["Duration, slider", "Durée, curseur"],
  seconds: ["Duration in seconds", "Durée en secondes"],
  more: ["More", "Plus"],
  seed: ["Seed", "Graine"],
  dice: ["Draw a seed", "Tirer une graine"],
  keepSeed: ["keep", "garder"],
  temperature: ["Temperature", "Température"],
  topK: ["Top-k", "Top-k"],
  topP: ["Top-p", "Top-p"],
  guidance: ["Guidance", "Guidage"],
  variations: ["Variations", "Variantes"],
  format: ["Format", "Format"],
  generate: ["Generate", "Générer"],
  cancel: ["Cancel", "Annuler"],
  shortcut: ["Ctrl + Enter", "Ctrl + Entrée"],
  asking: ["Asking", "Demande envoyée"],
  loading: ["Loading the model", "Chargement du modèle"],
  queued: ["Waiting, place {position}", "En attente, place {position}"],
  generating: ["Generating", "Génération"],
  buffering: ["Slower than it plays: gathering music", "Plus lent que l’écoute : on fait des réserves"],
  waiting: ["The service went away; waiting for it", "Le service s’est absenté ; on l’attend"],
  cancelled: ["Cancelled", "Annulé"],
  left: ["{time} left", "encore {time}"],
  progress: ["Progress", "Avancement"],
  retry: ["Try again", "Réessayer"],
  songs: ["Songs", "Morceaux"],
  continued: ["continued", "continué"],
  play: ["Play", "Écouter"],
  pause: ["Pause", "Pause"],
  wave: [
    "Position. Arrows move, [ and ] choose a part to repeat",
    "Position. Les flèches déplacent, [ et ] choisissent une partie à répéter",
  ],
  loop: ["Loop", "Boucle"],
  goOn: ["Continue from here", "Continuer d’ici"],
  link: ["Copy link", "Copier le lien"],
  curl: ["Copy as curl", "Copier pour curl"],
  copied: ["Copied", "Copié"],
  remove: ["Delete", "Supprimer"],
  download: ["Download", "Télécharger"],
  volume: ["Volume", "Volume"],
  forgetAll: ["Delete all", "Tout supprimer"],
  forgetAllSure: ["Delete all songs from this browser?", "Supprimer tous les morceaux de ce navigateur ?"],
  notKept: ["This browser can’t keep more songs.", "Ce navigateur ne peut pas garder d’autres morceaux."],
  key: ["This service asks for a key", "Ce service demande une clé"],
  wrongKey: ["This key isn’t known here.", "Cette clé est inconnue ici."],
  giveKey: ["Continue", "Continuer"],
  privacy: [
    "Your songs are kept in this browser only. Nothing is kept on the server.",
    "Vos morceaux restent dans ce navigateur. Rien n’est conservé sur le serveur.",
  ],
};

const errors = {
  network: ["The service can’t be reached.", "Le service est injoignable."],
  invalid_json: ["The request isn’t valid JSON.", "La demande n’est pas du JSON valide."],
  invalid_form: ["The form can’t be read.", "Le formulaire est illisible."],
  invalid_field: ["This value can’t be used.", "Cette valeur ne convient pas."],
  unauthorized: ["The service asks for a key.", "Le service demande une clé."],
  foreign_origin: ["This page may not ask this service.", "Cette page ne peut pas interroger ce service."],
  too_many_songs: ["This key has enough songs under way.", "Cette clé a assez de morceaux en cours."],
  unknown_model: ["This model isn’t known here.", "Ce modèle est inconnu ici."],
  not_found: ["This address isn’t known here.", "Cette adresse est inconnue ici."],
  body_too_slow: ["The request came too slowly.", "La demande est arrivée trop lentement."],
  body_too_large: ["The request is too large.", "La demande est trop volumineuse."],
  unsupported_media_type: ["The request must be JSON.", "La demande doit être en JSON."],
  method_not_allowed: ["The service refuses this call.", "Le service refuse cet appel."],
  queue_full: ["Too many people are waiting.", "Trop de personnes attendent."],
  triton_unavailable: ["The music engine isn’t running.", "Le moteur musical est arrêté."],
  engine_unavailable: ["The model’s engine stopped.", "Le moteur du modèle s’est arrêté."],
  weights_changed: ["The model’s weights have changed.", "Les poids du modèle ont changé."],
  weights_missing: ["The model’s weights are missing.", "Les poids du modèle manquent."],
  model_loading: ["The model is still loading.", "Le modèle se charge encore."],
  too_slow: ["This took too long.", "C’était trop long."],
  internal: ["The server failed.", "Le serveur a échoué."],
};

export let language = remembered() ?? (/^fr\b/.test(navigator.language) ? "fr" : "en");

export function switchLanguage() {
  language = LANGUAGES.find((other) => other !== language);
  try {
    localStorage.setItem("language", language);
  } catch { /* Without storage the choice lasts as long as the page. */ }
}

/** The text named `key`, its {names} filled in from `values`. */
export function t(key, values = {}) {
  return spoken(texts[key]).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export function errorText(code) {
  return spoken(errors[code] ?? errors.internal);
}

export function megabytes(bytes) {
  const format = { style: "unit", unit: "megabyte", maximumFractionDigits: 0 };
  return new Intl.NumberFormat(language, format).format(bytes / 1e6);
}

export function licenseText(license) {
  const named = { license: license.replace(/-(\d)/, " $1") };
  return t(license.includes("-NC-") ? "noncommercial" : "license", named);
}

/** As minutes and seconds. */
export function seconds(time) {
  return `${Math.floor(time / 60)}:${String(Math.floor(time % 60)).padStart(2, "0")}`;
}

/** Writes the texts of the elements below `root`. */
export function translate(root) {
  document.documentElement.lang = language;
  for (const it of root.querySelectorAll("[data-t]")) it.textContent = t(it.dataset.t);
  for (const it of root.querySelectorAll("[data-t-label]")) it.ariaLabel = t(it.dataset.tLabel);
}

function spoken(translations) {
  return translations[LANGUAGES.indexOf(language)];
}

function remembered() {
  try {
    return LANGUAGES.find((known) => known === localStorage.getItem("language"));
  } catch {
    return undefined;
  }
}
