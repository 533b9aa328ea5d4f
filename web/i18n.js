/** Every text of the page, in English and French, and which of the two is spoken. */

const LANGUAGES = ["en", "fr"];

const texts = {
  otherLanguage: ["Français", "English"],
  prompt: ["What should it sound like?", "Quelle musique imaginez-vous ?"],
  promptHint: ["Instruments, mood, style, tempo.", "En anglais : instruments, ambiance, tempo."],
  examples: ["Examples", "Exemples"],
  piano: ["Felt piano", "Piano feutré"],
  synthwave: ["Synthwave", "Synthwave"],
  brass: ["Epic brass", "Cuivres épiques"],
  quartet: ["String quartet", "Quatuor à cordes"],
  model: ["Model", "Modèle"],
  unloaded: ["not loaded", "pas encore chargé"],
  loading: ["loading", "en chargement"],
  ready: ["ready", "prêt"],
  unavailable: ["unavailable", "indisponible"],
  license: ["Weights: {license}.", "Poids : {license}."],
  noncommercial: ["Weights: {license}, non-commercial.", "Poids : {license}, non commercial."],
  tinyWords: [
    "Small: it knows piano, organ, guitar, bass, strings, brass, flute, synth, drums, and does " +
      "not keep a beat yet.",
    "Petit : il connaît piano, orgue, guitare, basse, cordes, cuivres, flûte, synthé, batterie, " +
      "mais ne tient pas encore le tempo.",
  ],
  missing: ["Its first use downloads them.", "La première utilisation les télécharge."],
  duration: ["Duration", "Durée"],
  fader: ["Duration, slider", "Durée, curseur"],
  seconds: ["Duration in seconds", "Durée en secondes"],
  generate: ["Generate", "Générer"],
  cancel: ["Cancel", "Annuler"],
  shortcut: ["Ctrl + Enter", "Ctrl + Entrée"],
  loadingModel: ["Loading the model", "Chargement du modèle"],
  generating: ["Generating", "Génération"],
  done: ["Your music is ready", "Votre musique est prête"],
  cancelled: ["Cancelled", "Annulé"],
  progress: ["Progress", "Avancement"],
  retry: ["Try again", "Réessayer"],
  listen: ["Listen", "Écouter"],
  download: ["Download", "Télécharger"],
  key: ["This service asks for a key", "Ce service demande une clé"],
  wrongKey: ["This key isn’t known here.", "Cette clé est inconnue ici."],
  giveKey: ["Continue", "Continuer"],
  privacy: ["Nothing is kept on the server.", "Rien n’est conservé sur le serveur."],
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
