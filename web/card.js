/** A take on the page: its waveform, what can be done with it, and how it fares. */

import { curl, generate } from "./api.js";
import { clock, explain, licenseText, t, translate } from "./i18n.js";
import * as player from "./player.js";
import { onClick, pause, say, ui } from "./ui.js";
import { createWaveform } from "./waveform.js";

const PART_MIN = 0.1; // seconds of what is repeated
const SOURCE_MAX = 30; // seconds that the server takes to go on from
const TOO_LATE = { message: "Choose a place in the first 30 seconds." };
const STATES = {
  asking: "Waiting", loading: "Loading the model", queued: "Waiting, place {position}", generating: "Generating",
  waiting: "The service went away; waiting for it", done: "Done",
};
const mega = (bytes) => Math.round(bytes / 1e6);

/**
 * @param on {play(take, from: seconds), goOn(take, seconds), remove(take)}
 * @returns {element, render(), draw()}: `draw` is for what changes with time
 */
export function createCard(take, on) {
  const element = ui.card.content.firstElementChild.cloneNode(true);
  const parts = Object.fromEntries([...element.querySelectorAll("[data-part]")].map((it) => [it.dataset.part, it]));
  const drawWave = createWaveform(parts.wave);
  const isMine = () => take.sound !== null && player.sound === take.sound;
  const isSounding = () => isMine() && player.state !== "paused";
  const position = () => held ?? (isMine() ? player.position() : 0);
  const settings = () => ({ ...take.kept.request, format: parts.format.value });
  const filename = () => (take.kept.filename ?? "music.wav").replace(/\w+$/, parts.format.value);
  let held = null; // the second to which the handle is drawn
  element.ariaLabel = take.kept.request.prompt;
  element.classList.toggle("variation", take.kept.isVariation);
  parts.format.append(...ui.format.cloneNode(true).options);
  parts.format.value = take.kept.format ?? "wav";
  onClick(parts, {
    save, repeat,
    play: () => (isSounding() ? player.pause() : on.play(take)),
    goOn: () => ((position() || take.seconds) > SOURCE_MAX ? tell(TOO_LATE) : on.goOn(take, position())),
    link: () => copy(`${location.href.split("#")[0]}#${new URLSearchParams(settings())}`, parts.link),
    curl: () => copy(curl(settings(), filename()), parts.curl),
    cancel: () => { take.cancel(); parts.play.focus({ preventScroll: true }); }, // Its button vanishes.
    remove: () => on.remove(take),
  });
  parts.position.addEventListener("input", () => { held = parts.position.valueAsNumber; draw(); });
  parts.position.addEventListener("change", () => letGo(held));
  parts.position.addEventListener("pointercancel", () => letGo(null)); // It was the page that moved.
  parts.position.addEventListener("pointerup", ({ pointerType, offsetX }) => {
    const touched = pointerType === "mouse" ? null : (offsetX / parts.position.clientWidth) * take.duration;
    letGo(held ?? touched); // iPhones tell of no input.
  });
  take.addEventListener("change", render);
  translate(element);
  render();
  return { element, render, draw };

  function render() {
    const { running, sound, kept: { request, license, source, blob } } = take;
    const facts = [request.model, `${t("Seed")} ${request.seed}`, source && t("continued")];
    say(parts.title, request.prompt);
    say(parts.facts, facts.filter(Boolean).join(" · "));
    say(parts.license, license ? licenseText(license) : "");
    parts.cancel.hidden = parts.progress.hidden = !running;
    parts.file.hidden = parts.repeat.hidden = !blob;
    parts.goOn.hidden = parts.play.disabled = !blob && !sound;
    parts.remove.hidden = running;
    parts.link.hidden = parts.curl.hidden = Boolean(source); // They hold no audio.
    parts.error.replaceChildren(...explain(take.error));
    draw();
  }

  function draw() {
    const { peaks, duration, state, progress } = take, at = position(), part = isMine() ? player.loop : null;
    drawWave({ peaks, duration, position: at, loop: part });
    Object.assign(parts.position, { max: duration, value: at, ariaValueText: clock(at) });
    say(parts.time, `${clock(at)} / ${clock(duration)}`);
    parts.play.dataset.state = isSounding() ? "pause" : "play";
    parts.play.ariaLabel = t(isSounding() ? "Pause" : "Play");
    say(parts.repeat, t(!part ? "Repeat from here" : part.to === duration ? "Repeat up to here" : "Repeat no more"));
    const gathers = isMine() && player.state === "buffering" && state === "generating";
    const told = gathers ? "Slower than it plays: gathering music" : STATES[state];
    say(parts.state, t(told ?? "", { position: progress?.position ?? "" }));
    drawProgress();
  }

  function drawProgress() {
    const { state, progress, sound, duration } = take, download = state === "loading" && progress?.download;
    const made = Math.max(progress?.seconds ?? 0, sound?.seconds ?? 0);
    const [value, max] = download ? [download.bytes, download.total_bytes] : [made, duration];
    if (value && max) Object.assign(parts.progress, { value, max });
    else parts.progress.removeAttribute("value");
    const left = state === "generating" && progress?.seconds_left;
    if (download) say(parts.left, t("{bytes} MB", { bytes: [value, max].filter(Boolean).map(mega).join(" / ") }));
    else say(parts.left, left ? t("{time} left", { time: clock(Math.ceil(left)) }) : "");
  }

  async function letGo(to) {
    held = null;
    if (to !== null && isMine()) player.seek(to);
    else if (to !== null) await on.play(take, to);
    draw();
  }

  /** First from here on, then up to here, then no more. */
  async function repeat() {
    if (!isMine()) await on.play(take, 0);
    const { duration } = take, at = player.position(), part = player.loop;
    if (!part) player.repeat({ from: at + PART_MIN < duration ? at : 0, to: duration });
    else if (part.to === duration && at - part.from > PART_MIN) player.repeat({ from: part.from, to: at });
    else player.repeat(null);
    draw();
  }

  async function save() {
    if (parts.save.ariaDisabled === "true") return;
    const { source, revision, blob } = take.kept, name = filename();
    const encode = () => generate(settings(), { source, revision }, (response) => response.blob());
    parts.save.ariaDisabled = true;
    tell(null);
    await (name.endsWith("wav") ? Promise.resolve(blob) : encode()).then((file) => download(file, name), tell);
    parts.save.ariaDisabled = false;
  }

  function tell(error) {
    take.error = error;
    render();
  }

  async function copy(text, button) {
    await (navigator.clipboard?.writeText(text) ?? Promise.reject()).catch(() => copyOverHttp(text));
    button.focus({ preventScroll: true });
    button.textContent = t("Copied");
    await pause(1500);
    translate(element);
    draw();
  }
}

function download(blob, name) {
  const href = URL.createObjectURL(blob);
  Object.assign(document.createElement("a"), { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

/** Over plain HTTP browsers have no clipboard, but the old command. */
function copyOverHttp(text) {
  const area = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
