/** The generation of one song: its request, the samples received so far, and its progress. */

import { fetchProgress, generate } from "./api.js";
import { Sound } from "./sound.js";
import { pause } from "./ui.js";

const MAX_CONCURRENT = 4; // Browsers open six connections to a host; progress needs some of them.
const POLL_MS = 500;
const RETRY_MS = 120_000; // for a song that is broken off and receives no new samples
const RETRY_CODES = [
  "network",
  "triton_unavailable",
  "engine_unavailable",
  "model_loading",
  "queue_full",
  "too_many_songs",
];
const SERVER_STATES = ["loading", "queued", "separating", "generating"];
const FINAL_STATES = ["done", "failed", "cancelled"];

let openRequests = 0;

/** Dispatches "change" when its state or its samples change. */
export class Generation extends EventTarget {
  progress = null; // from the server, see fetchProgress
  error = null; // the last one
  sound = null; // a Sound with peaks, or null
  #requestId = null; // the server's name for the last request
  #controller = new AbortController();

  /**
   * @param record what the browser stores of a song: {id, at: ms, group, isVariation, format,
   * license, request, …}; `source` and `from` of a continued song; `melody`, a file, of one that
   * follows it; `model`, `seed`, `revision` and `filename` once it begins; `blob` and `peaks` once
   * it is done. Variations of one request have the same `group`.
   */
  constructor(record) {
    super();
    this.record = record;
    this.state = record.blob ? "done" : "requesting"; // or "reconnecting", or in the lists above
  }

  get peaks() {
    return this.record.peaks ?? this.sound?.peaks ?? [];
  }

  /** Seconds that can be played. */
  get seconds() {
    return this.sound?.seconds ?? this.duration;
  }

  get duration() {
    return this.sound?.duration ?? this.record.request.duration;
  }

  get running() {
    return !FINAL_STATES.includes(this.state);
  }

  /** Requests the song and receives it to its end. */
  async run() {
    pause(POLL_MS).then(() => this.#pollProgress());
    try {
      await this.#receiveWithRetries();
    } catch (error) {
      this.error = this.#controller.signal.aborted ? null : error;
    }
    if (this.sound) this.#completeRecord();
    this.#setState(this.#finalState());
  }

  /** Stops the generation; the song is what is received by then. */
  cancel() {
    this.#controller.abort();
  }

  /** The Sound, from the stored song if need be; null while there is none. */
  async load() {
    if (this.sound || !this.record.blob) return this.sound;
    const sound = new Sound();
    sound.append(new Uint8Array(await this.record.blob.arrayBuffer()));
    this.sound ??= sound; // Another call may have loaded it meanwhile.
    return this.sound;
  }

  /** Frees the memory of a Sound that can be loaded again. */
  unload() {
    if (this.record.blob) this.sound = null;
    this.#setState(this.state);
  }

  /** Repeats a request that breaks off in mid-song: the same seed gives the same song. */
  async #receiveWithRetries() {
    let receivedFrames = 0;
    let deadline = 0;
    for (;;) {
      try {
        await this.#request();
        return;
      } catch (thrown) {
        const error = await this.#findCause(thrown);
        const canRetry = this.sound && RETRY_CODES.includes(error.code);
        if (!canRetry) throw error;
        if (this.sound.frames > receivedFrames) {
          receivedFrames = this.sound.frames;
          deadline = Date.now() + RETRY_MS;
        }
        if (Date.now() > deadline) throw error;
      }
      this.#requestId = null;
      this.progress = null;
      this.#setState("reconnecting");
      await pause(POLL_MS);
      this.#controller.signal.throwIfAborted();
    }
  }

  /** The server's error, if it knows why a connection broke off; else the error itself. */
  async #findCause(error) {
    if (error.code !== "network") return error;
    const progress = await fetchProgress(this.#requestId).catch(() => null);
    return progress?.error ?? error;
  }

  async #request() {
    const { request, source, melody, revision } = this.record;
    const { signal } = this.#controller;
    while (openRequests >= MAX_CONCURRENT) {
      signal.throwIfAborted();
      await pause(POLL_MS);
    }
    const id = crypto.getRandomValues(new Uint32Array(4)).join("-");
    this.#requestId = id;
    openRequests++;
    try {
      await generate(request, { id, source, melody, revision, signal }, (response, facts) => {
        Object.assign(this.record, facts);
        Object.assign(request, { model: facts.model, seed: facts.seed });
        return this.#receive(response.body.getReader());
      });
    } finally {
      openRequests--;
    }
  }

  async #receive(reader) {
    const sound = this.sound ?? new Sound();
    sound.rewind();
    for (;;) {
      const { done, value } = await reader.read(); // Not every browser can iterate over a stream.
      if (done) break;
      sound.append(value);
      if (sound.peaks.length > 0) {
        this.sound = sound;
        this.#setState("generating");
      }
    }
    if (!this.sound?.complete) throw new TypeError("incomplete response");
  }

  /** Makes the received samples the song, also if there are fewer than requested. */
  #completeRecord() {
    const { record, sound } = this;
    if (!sound.complete) delete record.request.ending;
    sound.close();
    record.blob = sound.file();
    record.peaks = sound.peaks;
    // The server requires a continued song to be longer than its source.
    const minDuration = record.from ? record.from + 1 : 0;
    record.request.duration = Math.max(sound.duration, minDuration);
  }

  #finalState() {
    if (this.sound) return "done";
    return this.error ? "failed" : "cancelled";
  }

  async #pollProgress() {
    while (this.running) {
      await this.#updateProgress();
      await pause(POLL_MS);
    }
  }

  async #updateProgress() {
    const id = this.#requestId;
    if (!id) return;
    const progress = await fetchProgress(id, this.#controller.signal).catch(() => null);
    const isOutdated = !this.running || id !== this.#requestId;
    if (!progress || isOutdated) return;
    this.progress = progress;
    if (SERVER_STATES.includes(progress.state)) this.#setState(progress.state);
  }

  #setState(state) {
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
}
