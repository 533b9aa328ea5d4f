/** A take on the page: its waveform, what can be done with it, and how it fares. */

import { curl, generate, linkOf } from "./api.js";
import { errorText, licenseText, megabytes, seconds, t, translate } from "./i18n.js";
import { Waveform } from "./waveform.js";

const PART_MIN = 0.1; // seconds of what is repeated
const SOURCE_MAX = 30; // seconds that the server takes to go on from

export class Card {
  #parts;
  #waveform;
  #take;
  #player;

  /** @param on {play(take), goOn(take, seconds), remove(take), retry(take)} */
  constructor(take, player, on) {
    this.#take = take;
    this.#player = player;
    this.element = document.querySelector("#card").content.firstElementChild.cloneNode(true);
    const named = [...this.element.querySelectorAll("[data-part]")];
    const parts = this.#parts = Object.fromEntries(named.map((it) => [it.dataset.part, it]));
    this.#waveform = new Waveform(parts.wave, {
      seek: (at) => this.#seek(at),
      step: (by) => this.#seek(this.#position + by),
      select: (part) => this.#select(part),
      toggle: () => this.#toggle(on),
      mark: (edge) => this.#select({ ...this.#loop ?? { from: 0, to: take.sound?.seconds }, [edge]: this.#position }),
      clear: () => this.#playing && player.repeat(null),
    });
    const clicks = {
      play: () => this.#toggle(on),
      loop: () => this.#loop ? player.repeat(null) : this.#select({ from: 0, to: Infinity }),
      goOn: () => on.goOn(take, this.#position),
      save: () => this.#save(),
      link: () => this.#copy(linkOf(take.kept.request), parts.link),
      curl: () => this.#copy(this.#curl(), parts.curl),
      cancel: () => take.cancel(),
      remove: () => on.remove(take),
      retry: () => on.retry(take),
    };
    for (const [name, click] of Object.entries(clicks)) parts[name].addEventListener("click", click);
    parts.format.value = take.kept.format ?? "wav";
    take.addEventListener("change", () => this.render());
    this.render();
  }

  get #playing() {
    return this.#take.sound !== null && this.#player.sound === this.#take.sound;
  }

  get #position() {
    return this.#playing ? this.#player.position : 0;
  }

  get #loop() {
    return this.#playing ? this.#player.loop : null;
  }

  render() {
    const parts = this.#parts, take = this.#take;
    const { request, license, source } = take.kept;
    translate(this.element);
    parts.title.textContent = request.prompt;
    const facts = [request.model, request.seed !== undefined && `${t("seed")} ${request.seed}`];
    if (source) facts.push(t("continued"));
    parts.facts.textContent = facts.filter(Boolean).join(" · ");
    parts.license.textContent = license ? licenseText(license) : "";
    parts.cancel.hidden = parts.progress.hidden = !take.running;
    for (const name of ["save", "format", "loop"]) parts[name].hidden = take.state !== "done";
    parts.goOn.hidden = !take.sound && take.state !== "done";
    parts.remove.hidden = take.running;
    parts.failure.hidden = take.state !== "failed";
    parts.play.disabled = !take.sound && take.state !== "done";
    if (take.error && take.state === "failed") {
      parts.error.textContent = errorText(take.error.code);
      parts.detail.textContent = take.error.message;
    }
    this.draw();
  }

  /** What changes with time. */
  draw() {
    const parts = this.#parts, take = this.#take, position = this.#position;
    const sounding = this.#playing && this.#player.state !== "paused";
    this.#waveform.draw({ peaks: take.peaks, duration: take.duration, position, loop: this.#loop });
    say(parts.time, `${seconds(position)} / ${seconds(take.duration)}`);
    parts.wave.ariaValueMax = take.duration.toFixed(1);
    parts.wave.ariaValueNow = position.toFixed(1);
    parts.wave.ariaValueText = seconds(position);
    parts.play.dataset.state = sounding ? "pause" : "play";
    parts.play.ariaLabel = t(sounding ? "pause" : "play");
    parts.loop.ariaPressed = this.#loop !== null;
    parts.goOn.disabled = position > SOURCE_MAX;
    const buffering = this.#playing && this.#player.state === "buffering";
    say(parts.state, this.#stateText(buffering));
    this.#drawProgress();
  }

  #stateText(buffering) {
    const { state, progress } = this.#take;
    if (buffering && state === "generating") return t("buffering");
    if (state === "queued") return t("queued", { position: progress?.position ?? "" });
    return { done: "", failed: "" }[state] ?? t(state);
  }

  #drawProgress() {
    const { state, progress, sound, duration } = this.#take, bar = this.#parts.progress;
    const download = state === "loading" && progress?.download;
    const made = Math.max(progress?.seconds ?? 0, sound?.seconds ?? 0);
    const [value, max] = download ? [download.bytes, download.total_bytes] : [made, duration];
    if (value && max) Object.assign(bar, { value, max });
    else bar.removeAttribute("value");
    const left = state === "generating" && progress?.seconds_left;
    say(this.#parts.left, download?.bytes
      ? [download.bytes, download.total_bytes].filter(Boolean).map(megabytes).join(" / ")
      : left ? t("left", { time: seconds(Math.ceil(left)) }) : "");
  }

  async #toggle(on) {
    if (this.#playing && this.#player.state !== "paused") this.#player.pause();
    else await on.play(this.#take);
  }

  async #seek(at) {
    if (!await this.#loaded()) return;
    if (!this.#playing) this.#player.play(this.#take.sound, 0);
    this.#player.seek(Math.max(0, at));
  }

  async #select({ from, to }) {
    if (!await this.#loaded()) return;
    const { sound } = this.#take, end = Math.min(to, sound.seconds);
    if (end - from < PART_MIN) return;
    if (!this.#playing) this.#player.play(sound, from);
    this.#player.repeat({ from, to: end });
  }

  /** Whether there is anything to hear. */
  async #loaded() {
    if (this.#take.state === "done") await this.#take.load();
    return this.#take.sound !== null;
  }

  async #save() {
    const { kept } = this.#take, { save, format } = this.#parts;
    const name = (kept.filename ?? "music.wav").replace(/\w+$/, format.value);
    if (format.value === "wav") return download(this.#take.blob, name);
    save.ariaDisabled = true;
    try {
      const { source, request } = kept;
      const again = { ...request, format: format.value };
      const blob = await generate(again, { source }, (response) => response.blob());
      download(blob, name);
    } catch (error) {
      say(this.#parts.state, errorText(error.code));
    }
    save.ariaDisabled = false;
  }

  #curl() {
    const { request, filename, source } = this.#take.kept;
    return curl(request, filename ?? "music.wav", source !== undefined);
  }

  async #copy(text, button) {
    await copy(text);
    button.textContent = t("copied");
    setTimeout(() => translate(this.element), 1500);
  }
}

/** A text that does not change is not written: it would be read out again. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Over plain HTTP browsers have no clipboard, but the old command. */
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
