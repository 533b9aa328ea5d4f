/** One song of one's own: what was asked for, what has come of it, and how it fares. */

import { ApiError, fetchProgress, generate } from "./api.js";
import { Sound } from "./sound.js";
import { readWav } from "./wav.js";

const POLL_MS = 500;
const PATIENCE_MS = 120_000; // with a server that went away in mid-song

export class Take extends EventTarget {
  state = "asking"; // loading, queued, generating, waiting, done, failed, cancelled
  progress = null; // the server's own, see fetchProgress
  error = null;
  sound = null;
  #parts = []; // the file's bytes, as they came
  #job = new AbortController();

  /**
   * @param kept {id, at, request, license, source, …}: what is kept of a song, `blob` and all, or
   * what is known of one that is still to be made. `group` is that of variations of one request.
   */
  constructor(kept) {
    super();
    this.kept = kept;
    if (kept.blob) this.state = "done";
  }

  get blob() {
    return this.kept.blob ?? new Blob(this.#parts, { type: "audio/wav" });
  }

  get peaks() {
    return this.kept.peaks ?? this.sound?.peaks ?? [];
  }

  get duration() {
    return this.sound?.duration ?? this.kept.request.duration;
  }

  get running() {
    return !["done", "failed", "cancelled"].includes(this.state);
  }

  /** Asks for the song and hears it to its end. */
  async make() {
    try {
      await this.#insist();
      Object.assign(this.kept, { blob: this.blob, peaks: this.sound.peaks });
      this.#parts = [];
      this.#become("done");
    } catch (error) {
      this.error = error;
      this.#become(this.#job.signal.aborted ? "cancelled" : "failed");
    }
    this.#job.abort();
  }

  cancel() {
    this.#job.abort();
  }

  /** The samples of one that was kept. */
  async load() {
    if (!this.sound) await this.#hear(this.blob.stream());
  }

  /** A server that went away in mid-song makes it again: the same seed is the same music. */
  async #insist() {
    for (let heard = -1, until = 0;;) {
      try {
        return await this.#ask();
      } catch (error) {
        if (error.code !== "network" || !this.sound) throw error;
        if (this.sound.filled > heard) until = Date.now() + PATIENCE_MS;
        if (Date.now() > until || this.#job.signal.aborted) throw error;
        heard = this.sound.filled;
        this.#become("waiting");
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
    }
  }

  async #ask() {
    const id = [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(36)).join("-");
    const done = new AbortController();
    this.#watch(id, AbortSignal.any([this.#job.signal, done.signal]));
    try {
      const { request, source } = this.kept;
      await generate(request, { id, source, signal: this.#job.signal }, (response, facts) => {
        if (this.kept.revision && facts.revision !== this.kept.revision) {
          throw new ApiError("weights_changed");
        }
        Object.assign(this.kept, facts);
        Object.assign(request, { model: facts.model, seed: facts.seed });
        return this.#hear(response.body);
      });
    } finally {
      done.abort();
    }
  }

  async #hear(body) {
    let known = this.sound?.filled ?? 0; // frames that are not heard again
    this.#parts = [];
    for await (const { format, bytes, pcm } of readWav(body)) {
      this.#parts.push(bytes);
      if (!format) continue;
      this.format = format;
      this.sound ??= new Sound(format);
      const skipped = Math.min(known, pcm.length / format.channels);
      known -= skipped;
      this.sound.append(pcm.subarray(skipped * format.channels));
      this.#become(this.state === "done" ? "done" : "generating");
    }
    if (!this.sound?.complete) throw new ApiError("network");
  }

  /** How it fares, until the signal. */
  async #watch(id, signal) {
    while (!signal.aborted) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      const progress = await fetchProgress(id, signal).catch(() => null);
      if (!progress || signal.aborted) continue;
      this.progress = progress;
      if (["loading", "queued", "generating"].includes(progress.state)) this.#become(progress.state);
    }
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
}
