/** The takes on the deck: which one is chosen, and what becomes of it. */

import * as deck from "./deck.js";
import { clock, licenseText, t, timeOf } from "./i18n.js";
import * as player from "./player.js";
import { errorText } from "./refusals.js";
import { titleOf } from "./sections.js";
import { create, onClick, pause, resize, setText, ui } from "./ui.js";

const COPIED_MS = 1500;

/** The letter of a generation's take; behind Z come A2, B2 and so on. */
export function letterOf({ record: { take } }) {
  const round = Math.floor(take / 26);
  return String.fromCharCode(65 + (take % 26)) + (round ? round + 1 : "");
}

/** The number of the next take on the deck; 0 is A. */
export function nextTake() {
  return 1 + Math.max(...deck.takes().map(({ record }) => record.take));
}

/** Moves the focus to the chosen take, where the button that had it goes away. */
export function focusChosen() {
  ui.takes.querySelector("[aria-pressed=true]")?.focus({ preventScroll: true });
}

export function render() {
  const { chosen } = deck;
  ui.deck.hidden = !chosen;
  if (!chosen) return;
  const { record, running, state, error } = chosen;
  const takes = deck.takes();
  resize(ui.takes, takes.length, () => create("button"));
  for (const [index, take] of takes.entries()) renderTake(take, ui.takes.children[index]);
  setText(ui.title, titleOf(record));
  ui.remove.hidden = record.isExample === true;
  ui.star.hidden = ui.remove.hidden;
  renderStar(ui.star, record);
  const facts = [
    record.isExample && t("An example", "Un exemple"),
    record.request.model,
    record.request.seed !== undefined && `${t("Seed", "Graine")} ${record.request.seed}`,
    record.files?.audio && t("continued", "prolongé"),
    record.files?.melody && t("with a melody", "avec une mélodie"),
    record.license && licenseText(record.license),
  ];
  setText(ui.facts, facts.filter(Boolean).join(" · "));
  ui.stop.hidden = !running;
  ui.again.hidden = state !== "stopped" && state !== "failed";
  const again = state === "stopped" ? t("Make it whole", "Terminer") : t("Try again", "Réessayer");
  setText(ui.again, again);
  ui.command.hidden = Boolean(record.files); // Neither holds files.
  ui.link.hidden = ui.command.hidden || Boolean(record.request.sections);
  setText(ui.error, errorText(error));
  draw();
}

export function renderStar(button, { isStarred }) {
  button.ariaPressed = Boolean(isStarred);
  setText(button, isStarred ? "★" : "☆");
}

export function draw() {
  if (!deck.chosen) return;
  const { progress, state } = deck.chosen;
  const isBuffering = deck.chosen === deck.current && player.state === "buffering";
  const shown = isBuffering && state === "generating" ? "buffering" : state;
  setText(ui.state, stateText(deck.chosen)[shown]);
  const download = state === "loading" ? progress?.download : null;
  const secondsLeft = state === "generating" ? progress?.seconds_left : null;
  const time = clock(Math.ceil(secondsLeft ?? 0));
  const left = secondsLeft ? t(`${time} left`, `encore ${time}`) : "";
  setText(ui.left, download ? amountOf(download) : left);
}

function stateText({ progress, place, seconds, duration }) {
  const position = progress?.position ?? "";
  const stopped = timeOf(clock(seconds), duration);
  return {
    requesting: t("Waiting", "En attente"),
    waiting: t(
      `Waiting in this browser, place ${place}`,
      `En attente dans ce navigateur, place ${place}`,
    ),
    loading: t("Loading the model", "Chargement du modèle"),
    queued: t(`Waiting, place ${position}`, `En attente, place ${position}`),
    separating: t(
      `Waiting for the melody without drums and bass, place ${position}`,
      `En attente de la mélodie sans batterie ni basse, place ${position}`,
    ),
    generating: t("Generating", "Génération"),
    buffering: t(
      "Slower than it plays: gathering music",
      "Génération plus lente que la lecture : mise en mémoire tampon",
    ),
    reconnecting: t(
      "The service went away; waiting for it",
      "Le service ne répond plus ; nouvel essai en cours",
    ),
    stopped: t(`Stopped at ${stopped}`, `Arrêté à ${stopped}`),
    failed: t("No music was made", "Aucune musique n’a été produite"),
    done: t("Done", "Terminé"),
  };
}

function renderTake(take, button) {
  const { seconds, duration, state } = take;
  setText(button, letterOf(take) + (take.record.isStarred ? "★" : ""));
  button.ariaPressed = take === deck.chosen;
  button.ariaLabel = t(`Take ${letterOf(take)}`, `Prise ${letterOf(take)}`);
  button.dataset.state = state;
  button.style.setProperty("--made", `${(100 * seconds) / duration}%`);
}

export function amountOf({ bytes, total_bytes: totalBytes }) {
  const megabytes = [bytes, totalBytes].filter(Boolean).map((count) => Math.round(count / 1e6));
  return `${megabytes.join(" / ")} ${t("MB", "Mo")}`;
}

/** The page's address with the song's request, see `restore` in composer.js. */
function linkTo({ request }) {
  return `${location.href.split("#")[0]}#${new URLSearchParams(request)}`;
}

function commandOf({ request }) {
  const body = JSON.stringify(request).replaceAll("'", "\\u0027");
  const header = "-H 'Content-Type: application/json'";
  return `curl --fail-with-body -o song.wav ${location.origin}/generate ${header} -d '${body}'`;
}

/** Browsers offer the clipboard API over TLS only. */
async function copy(text, button) {
  const area = create("textarea", { value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  button.focus();
  button.textContent = t("Copied", "Copié");
  await pause(COPIED_MS);
  button.textContent = t(button.dataset.en, button.dataset.fr);
}

ui.takes.addEventListener("click", ({ target }) => {
  deck.choose(deck.takes()[[...ui.takes.children].indexOf(target)]);
});
onClick({
  stop: () => {
    deck.chosen.cancel();
    focusChosen();
  },
  link: () => copy(linkTo(deck.chosen.record), ui.link),
  command: () => copy(commandOf(deck.chosen.record), ui.command),
});
