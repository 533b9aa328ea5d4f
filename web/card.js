/** A song's card: its waveform, its progress, and the actions on it. */

import { curl, generate } from "./api.js";
import { clock, errorNodes, licenseText, t, translate } from "./i18n.js";
import * as player from "./player.js";
import { onClick, pause, setText, ui } from "./ui.js";
import { createWaveform } from "./waveform.js";

const MIN_LOOP = 0.1; // seconds
const MAX_SOURCE = 30; // seconds of audio that the server continues
const SOURCE_TOO_LONG = { message: "Choose a place in the first 30 seconds." };
const COPIED_MS = 1500;
const FILE_URL_MS = 60_000; // how long a file's URL lives: browsers do not report a download's end
const STATE_TEXTS = {
  requesting: "Waiting",
  loading: "Loading the model",
  queued: "Waiting, place {position}",
  separating: "Waiting for the melody without drums and bass, place {position}",
  generating: "Generating",
  reconnecting: "The service went away; waiting for it",
  done: "Done",
};

export class Card {
  #generation;
  #actions;
  #parts; // elements by their data-part
  #drawWaveform;
  #dragPosition = null; // seconds, while the user drags the handle

  /**
   * @param actions {play(generation, from), continueFrom(generation, position),
   * remove(generation)}; positions in seconds
   */
  constructor(generation, actions) {
    this.element = ui.card.content.firstElementChild.cloneNode(true);
    this.#generation = generation;
    this.#actions = actions;
    const parts = [...this.element.querySelectorAll("[data-part]")];
    this.#parts = Object.fromEntries(parts.map((part) => [part.dataset.part, part]));
    this.#drawWaveform = createWaveform(this.#parts.wave);
    this.#fillElement();
    this.#addButtonHandlers();
    this.#addSliderHandlers();
    generation.addEventListener("change", () => this.render());
    translate(this.element);
    this.render();
  }

  /** Renders all of the card. */
  render() {
    const { running, sound, error } = this.#generation;
    const { request, license, source, melody, blob } = this.#generation.record;
    const parts = this.#parts;
    const facts = [
      request.model,
      `${t("Seed")} ${request.seed}`,
      source && t("continued"),
      melody && t("with a melody"),
    ];
    setText(parts.title, request.prompt);
    setText(parts.facts, facts.filter(Boolean).join(" · "));
    setText(parts.license, license ? licenseText(license) : "");
    parts.cancel.hidden = !running;
    parts.progress.hidden = !running;
    parts.remove.hidden = running;
    parts.file.hidden = !blob;
    parts.repeat.hidden = !blob;
    parts.continue.hidden = !blob && !sound;
    parts.play.disabled = !blob && !sound;
    const hasAudio = Boolean(source ?? melody); // Neither a link nor a curl command can hold it.
    parts.link.hidden = hasAudio;
    parts.curl.hidden = hasAudio;
    parts.error.replaceChildren(...errorNodes(error));
    this.draw();
  }

  /** Renders the parts that change with time. */
  draw() {
    const { peaks, duration } = this.#generation;
    const position = this.#position;
    const loop = this.#loop;
    this.#drawWaveform({ peaks, duration, position, loop });
    this.#drawControls(position, duration, loop);
    this.#drawState();
    this.#drawProgress();
  }

  /** Whether the song is in the player. */
  get #isCurrent() {
    return this.#generation.sound !== null && player.sound === this.#generation.sound;
  }

  get #isPlaying() {
    return this.#isCurrent && player.state !== "paused";
  }

  get #position() {
    if (this.#dragPosition !== null) return this.#dragPosition;
    return this.#isCurrent ? player.position() : 0;
  }

  get #loop() {
    return this.#isCurrent ? player.loop : null;
  }

  /** The song's request with the selected format. */
  get #request() {
    return { ...this.#generation.record.request, format: this.#parts.format.value };
  }

  get #filename() {
    const filename = this.#generation.record.filename ?? "music.wav";
    return filename.replace(/\w+$/, this.#parts.format.value);
  }

  #fillElement() {
    const { request, isVariation, format = "wav" } = this.#generation.record;
    this.element.ariaLabel = request.prompt;
    this.element.classList.toggle("variation", isVariation);
    this.#parts.format.append(...ui.format.cloneNode(true).options);
    this.#parts.format.value = format;
  }

  #addButtonHandlers() {
    const parts = this.#parts;
    onClick(parts, {
      save: () => this.#save(),
      repeat: () => this.#changeLoop(),
      play: () => this.#togglePlayback(),
      continue: () => this.#continue(),
      link: () => this.#copy(this.#link(), parts.link),
      curl: () => this.#copy(curl(this.#request, this.#filename), parts.curl),
      cancel: () => {
        this.#generation.cancel();
        parts.play.focus({ preventScroll: true }); // The Stop button disappears.
      },
      remove: () => this.#actions.remove(this.#generation),
    });
  }

  #addSliderHandlers() {
    const slider = this.#parts.position;
    slider.addEventListener("input", () => {
      this.#dragPosition = slider.valueAsNumber;
      this.draw();
    });
    slider.addEventListener("change", () => this.#release(this.#dragPosition));
    // The browser sends pointercancel when the touch scrolls the page.
    slider.addEventListener("pointercancel", () => this.#release(null));
    slider.addEventListener("pointerup", ({ pointerType, offsetX }) => {
      // iPhones send no input event after a touch.
      const isTouch = pointerType !== "mouse";
      const touched = (offsetX / slider.clientWidth) * this.#generation.duration;
      this.#release(this.#dragPosition ?? (isTouch ? touched : null));
    });
  }

  /** Ends a drag and moves to a position, if one is given. */
  async #release(position) {
    this.#dragPosition = null;
    if (position !== null) {
      if (this.#isCurrent) player.seek(position);
      else await this.#actions.play(this.#generation, position);
    }
    this.draw();
  }

  #drawControls(position, duration, loop) {
    const parts = this.#parts;
    Object.assign(parts.position, {
      max: duration,
      value: position,
      ariaValueText: clock(position),
    });
    setText(parts.time, `${clock(position)} / ${clock(duration)}`);
    parts.play.dataset.state = this.#isPlaying ? "pause" : "play";
    parts.play.ariaLabel = t(this.#isPlaying ? "Pause" : "Play");
    setText(parts.repeat, t(repeatText(loop, duration)));
  }

  #drawState() {
    const { state, progress } = this.#generation;
    const isBuffering = this.#isCurrent && player.state === "buffering" && state === "generating";
    const text = isBuffering ? "Slower than it plays: gathering music" : STATE_TEXTS[state];
    setText(this.#parts.state, t(text ?? "", { position: progress?.position ?? "" }));
  }

  #drawProgress() {
    const { state, progress, sound, duration } = this.#generation;
    const download = state === "loading" ? progress?.download : null;
    if (download) {
      this.#drawBar(download.bytes, download.total_bytes);
      setText(this.#parts.left, downloadText(download));
      return;
    }
    this.#drawBar(Math.max(progress?.seconds ?? 0, sound?.seconds ?? 0), duration);
    const secondsLeft = state === "generating" ? progress?.seconds_left : null;
    const time = clock(Math.ceil(secondsLeft));
    setText(this.#parts.left, secondsLeft ? t("{time} left", { time }) : "");
  }

  #drawBar(value, max) {
    if (value && max) Object.assign(this.#parts.progress, { value, max });
    else this.#parts.progress.removeAttribute("value");
  }

  #togglePlayback() {
    if (this.#isPlaying) player.pause();
    else this.#actions.play(this.#generation);
  }

  /** Repeats from here to the end; then, at the next call, up to here; then no more. */
  async #changeLoop() {
    if (!this.#isCurrent) await this.#actions.play(this.#generation, 0);
    const { duration } = this.#generation;
    const position = player.position();
    const { loop } = player;
    if (!loop) {
      const isAtEnd = position + MIN_LOOP >= duration;
      player.setLoop({ from: isAtEnd ? 0 : position, to: duration });
    } else if (loop.to === duration && position - loop.from > MIN_LOOP) {
      player.setLoop({ from: loop.from, to: position });
    } else {
      player.setLoop(null);
    }
    this.draw();
  }

  #continue() {
    const position = this.#position;
    const sourceSeconds = position || this.#generation.seconds;
    if (sourceSeconds > MAX_SOURCE) this.#showError(SOURCE_TOO_LONG);
    else this.#actions.continueFrom(this.#generation, position);
  }

  async #save() {
    const { save } = this.#parts;
    if (save.ariaDisabled === "true") return;
    const filename = this.#filename;
    save.ariaDisabled = true;
    this.#showError(null);
    try {
      const isWav = filename.endsWith("wav");
      const file = isWav ? this.#generation.record.blob : await this.#encode();
      saveFile(file, filename);
    } catch (error) {
      this.#showError(error);
    }
    save.ariaDisabled = false;
  }

  /** The song in the selected format: the server generates it again. */
  #encode() {
    const { source, melody, revision } = this.#generation.record;
    return generate(this.#request, { source, melody, revision }, (response) => response.blob());
  }

  #showError(error) {
    this.#generation.error = error;
    this.render();
  }

  /** The page's address with the song's request, see followLink in composer.js. */
  #link() {
    return `${location.href.split("#")[0]}#${new URLSearchParams(this.#request)}`;
  }

  async #copy(text, button) {
    await copyToClipboard(text);
    button.focus({ preventScroll: true });
    button.textContent = t("Copied");
    await pause(COPIED_MS);
    translate(this.element);
    this.draw();
  }
}

function repeatText(loop, duration) {
  if (!loop) return "Repeat from here";
  return loop.to === duration ? "Repeat up to here" : "Repeat no more";
}

function downloadText({ bytes, total_bytes: totalBytes }) {
  const megabytes = [bytes, totalBytes].filter(Boolean).map((count) => Math.round(count / 1e6));
  return t("{bytes} MB", { bytes: megabytes.join(" / ") });
}

function saveFile(blob, filename) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = filename;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), FILE_URL_MS);
}

async function copyToClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyOverHttp(text);
  }
}

/** Copies without the clipboard API, which browsers offer over HTTPS only. */
function copyOverHttp(text) {
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
