/** One song of one's own: what was asked for, what has come of it, and how it fares. */

import { fetchProgress, generate } from "./api.js";
import { Sound } from "./sound.js";
import { pause } from "./ui.js";

const AT_ONCE = 4; // songs that are asked for: a browser opens six connections to a host
const POLL_MS = 500;
const PATIENCE_MS = 120_000; // with a service that went away in mid-song
const AWAY = ["network", "triton_unavailable", "engine_unavailable", "model_loading", "queue_full", "too_many_songs"];

let asked = 0;

export class Take extends EventTarget {
  progress = null; // the server's own, see fetchProgress
  error = null; // what went wrong last
  sound = null; // once there is something to hear
  #id = null; // by which the server knows the last request
  #job = new AbortController();

  /**
   * @param kept {id, at, request, license, source, …}: what is kept of a song, `blob` and all, or
   * what is known of one that is still to be made. `group` is that of variations of one request.
   */
  constructor(kept) {
    super();
    this.kept = kept;
    this.state = kept.blob ? "done" : "asking"; // loading, queued, generating, waiting, failed, cancelled
  }

  get peaks() { return this.kept.peaks ?? this.sound?.peaks ?? []; }
  get seconds() { return this.sound?.seconds ?? this.duration; } // that are there
  get duration() { return this.sound?.duration ?? this.kept.request.duration; }
  get running() { return !["done", "failed", "cancelled"].includes(this.state); }

  /** Asks for the song and hears it to its end. */
  async make() {
    pause(POLL_MS).then(() => this.#watch());
    await this.#insist().catch((error) => { this.error = this.#job.signal.aborted ? null : error; });
    if (this.sound) this.#keep();
    this.#become(this.sound ? "done" : this.error ? "failed" : "cancelled");
  }

  /** What has come of the song stays. */
  cancel() { this.#job.abort(); }

  /** What there is to hear, or null. */
  async load() {
    if (this.sound || !this.kept.blob) return this.sound;
    const sound = new Sound();
    sound.append(new Uint8Array(await this.kept.blob.arrayBuffer()));
    return this.sound ??= sound; // which another may have loaded meanwhile
  }

  /** Gives its memory back, if it can be loaded again. */
  unload() {
    if (this.kept.blob) this.sound = null;
    this.#become(this.state);
  }

  /** A service that went away in mid-song makes it again: the same seed is the same music. */
  async #insist() {
    for (let heard = 0, until = 0; ;) {
      try {
        return await this.#ask();
      } catch (lost) {
        const why = lost.code === "network" && await fetchProgress(this.#id).catch(() => null);
        const error = why?.error ?? lost;
        if (!this.sound || !AWAY.includes(error.code)) throw error;
        if (this.sound.filled > heard) [heard, until] = [this.sound.filled, Date.now() + PATIENCE_MS];
        if (Date.now() > until) throw error;
      }
      this.#id = this.progress = null;
      this.#become("waiting");
      await pause(POLL_MS);
      this.#job.signal.throwIfAborted();
    }
  }

  /** What has come is a song, also where more was asked for. */
  #keep() {
    const { sound, kept } = this;
    sound.close();
    Object.assign(kept, { blob: sound.file(), peaks: sound.peaks });
    kept.request.duration = Math.max(sound.duration, kept.from ? kept.from + 1 : 0); // It goes on a little.
  }

  async #ask() {
    const { request, source, revision } = this.kept, { signal } = this.#job;
    for (; asked >= AT_ONCE; await pause(POLL_MS)) signal.throwIfAborted();
    const id = this.#id = crypto.getRandomValues(new Uint32Array(4)).join("-");
    asked++;
    await generate(request, { id, source, revision, signal }, (response, facts) => {
      Object.assign(this.kept, facts);
      Object.assign(request, { model: facts.model, seed: facts.seed });
      return this.#hear(response.body.getReader()); // Not every browser iterates over streams.
    }).finally(() => asked--);
  }

  async #hear(reader) {
    const sound = this.sound ?? new Sound();
    sound.rewind();
    for (let piece; !(piece = await reader.read()).done;) {
      sound.append(piece.value);
      if (!sound.peaks.length) continue;
      this.sound = sound;
      this.#become("generating");
    }
    if (!this.sound?.complete) throw new TypeError("The song broke off.");
  }

  /** How it fares, until it ends. */
  async #watch() {
    for (; this.running; await pause(POLL_MS)) {
      const id = this.#id, progress = id && await fetchProgress(id, this.#job.signal).catch(() => null);
      if (!progress || !this.running || id !== this.#id) continue;
      this.progress = progress;
      if (["loading", "queued", "generating"].includes(progress.state)) this.#become(progress.state);
    }
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
}
