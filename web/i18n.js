/** The texts of the page in English and French. The English text is the key of its French one. */

import { loadItem, saveItem } from "./ui.js";

const FRENCH = {
  Français: "English",
  "What should it sound like?": "Quelle musique imaginez-vous ?",
  "Instruments, mood, style, tempo.": "En anglais : instruments, ambiance, tempo.",
  Examples: "Exemples",
  "Calm piano": "Piano calme",
  Synthwave: "Synthwave",
  "Epic brass": "Cuivres épiques",
  "Sad flute": "Flûte triste",
  Model: "Modèle",
  unloaded: "pas encore chargé",
  loading: "se charge",
  ready: "prêt",
  unavailable: "indisponible",
  "Weights: {license}.": "Poids : {license}.",
  "Weights: {license}, non-commercial.": "Poids : {license}, non commercial.",
  "Small: it knows piano, organ, guitar, bass, strings, brass, flute, synth and drums.":
    "Petit : il connaît piano, orgue, guitare, basse, cordes, cuivres, flûte, synthé et batterie.",
  "Its first use downloads them.": "La première utilisation les télécharge.",
  "A melody to follow (drop a file here)": "Une mélodie à suivre (déposez un fichier ici)",
  Record: "Enregistrer",
  "End the recording": "Finir l’enregistrement",
  recording: "enregistrement",
  "No melody": "Sans mélodie",
  "It has drums or bass: take these out first": "Il y a batterie ou basse : les enlever d’abord",
  "The browser gives no microphone to this page.":
    "Le navigateur ne donne pas de micro à cette page.",
  "with a melody": "avec une mélodie",
  "Duration in seconds": "Durée en secondes",
  "Duration, slider": "Durée, curseur",
  More: "Plus",
  Seed: "Graine",
  "Draw a seed": "Tirer une graine",
  keep: "garder",
  Temperature: "Température",
  Guidance: "Guidage",
  Ending: "Fin",
  Cut: "Coupée",
  Fade: "En fondu",
  Loop: "En boucle",
  Volume: "Volume",
  Make: "Créer",
  Deck: "Platine",
  Sections: "Parties",
  Takes: "Prises",
  "Take {letter}": "Prise {letter}",
  "Play, take {letter}": "Écouter, prise {letter}",
  "Pause, take {letter}": "Pause, prise {letter}",
  "{time} of {duration}": "{time} sur {duration}",
  "Waiting in this browser, place {position}": "En attente dans ce navigateur, place {position}",
  "Stopped at {time} of {duration}": "Arrêté à {time} sur {duration}",
  "No music came": "Aucune musique n’est venue",
  "Make it whole": "Le finir",
  "Try again": "Réessayer",
  Progress: "Avancement",
  Transport: "Transport",
  Save: "Enregistrer le fichier",
  Keys: "Touches",
  Space: "Espace",
  "play or pause": "écouter ou pause",
  "five seconds back or on": "cinq secondes en arrière ou en avant",
  loop: "boucle",
  "takes A to D, at the same position": "prises A à D, à la même position",
  "make the song": "créer le morceau",
  "this list": "cette liste",
  Close: "Fermer",
  "No room for this song: save its file.": "Plus de place : enregistrez le fichier de ce morceau.",
  "Ctrl + Enter": "Ctrl + Entrée",
  Stop: "Arrêter",
  Waiting: "En attente",
  Done: "Terminé",
  "Loading the model": "Chargement du modèle",
  "Waiting, place {position}": "En attente, place {position}",
  "Waiting for the melody without drums and bass, place {position}":
    "En attente de la mélodie sans batterie ni basse, place {position}",
  Generating: "Génération",
  "Slower than it plays: gathering music": "Plus lent que l’écoute : on fait des réserves",
  "The service went away; waiting for it": "Le service s’est absenté ; on l’attend",
  "{bytes} MB": "{bytes} Mo",
  "{time} left": "encore {time}",
  Songs: "Morceaux",
  continued: "continué",
  Delete: "Supprimer",
  Position: "Position",
  "Copy link": "Copier le lien",
  Copied: "Copié",
  "This key isn’t known here.": "Cette clé est inconnue ici.",
  "This service asks for a key": "Ce service demande une clé",
  Continue: "Continuer",
  "Your songs are kept in this browser only. Nothing is kept on the server.":
    "Vos morceaux restent dans ce navigateur. Rien n’est conservé sur le serveur.",
  "The service can’t be reached. Try again in a moment.":
    "Le service est injoignable. Réessayez dans un instant.",
  "The model’s weights have changed. Ask for a new song.":
    "Les poids ont changé. Demandez un nouveau morceau.",
};

/** French for the codes of errors. The server's English message follows it on the page. */
const FRENCH_ERRORS = {
  invalid_field: "Cette valeur ne convient pas.",
  unauthorized: "Le service demande une clé.",
  too_many_songs: "Cette clé a assez de morceaux en cours.",
  too_many_changes: "Ce morceau vient de changer, ou change trop souvent.",
  song_ended: "Ce morceau est déjà terminé.",
  unknown_model: "Ce modèle est inconnu ici.",
  body_too_large: "La demande est trop volumineuse.",
  queue_full: "Trop de personnes attendent.",
  triton_unavailable: "Le moteur musical est arrêté.",
  model_loading: "Le modèle se charge encore.",
  engine_unavailable: "Le moteur du modèle s’est arrêté.",
  shared_memory_full: "La mémoire partagée du serveur est pleine.",
  too_slow: "C’était trop long.",
  weights_changed: "Les poids du modèle ont changé.",
  weights_missing: "Les poids du modèle manquent.",
  invalid_http: "La demande est illisible, ou ses en-têtes sont trop longs.",
  invalid_json: "La demande est illisible.",
  invalid_form: "Le formulaire est illisible.",
  not_found: "Cette adresse est inconnue ici.",
  method_not_allowed: "Le service refuse cet appel.",
  foreign_origin: "Cette page ne peut pas interroger ce service.",
  internal: "Le serveur a échoué.",
  body_too_slow: "La demande est arrivée trop lentement.",
  unsupported_media_type: "La demande doit être en JSON.",
  expectation_failed: "La demande attend une réponse que le service ne donne pas.",
};

let language = loadItem("localStorage", "language") ?? navigator.language.slice(0, 2);

export function switchLanguage() {
  language = language === "fr" ? "en" : "fr";
  saveItem("localStorage", "language", language);
}

/** The text in the current language, with its {names} replaced from `values`. */
export function t(text, values = {}) {
  const translated = (language === "fr" && FRENCH[text]) || text;
  return translated.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** The nodes that tell the user about an error; none for null. */
export function errorNodes(error) {
  if (!error) return [];
  const { code, message } = error;
  if (language !== "fr" || message in FRENCH) return [t(message)];
  const original = document.createElement("small");
  original.lang = "en";
  original.textContent = message;
  return [FRENCH_ERRORS[code] ?? FRENCH_ERRORS.internal, original];
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
