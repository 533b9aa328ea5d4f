/** The generation of one take: its request, the samples received so far, and its progress. */

import { changeSong, fetchProgress, generate } from "./api.js";
import { Sound } from "./sound.js";
import { newId, pause } from "./ui.js";

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
const SAVED_GROWTH = 1.5; // A song is stored whenever it has grown so much,
const SAVED_SECONDS = 2; // and by so many seconds.

const queue = []; // generations; the first MAX_CONCURRENT have a connection

/** Dispatches "change" when its state or its samples change, "save" when its record does. */
export class Generation extends EventTarget {
  progress = null; // from the server, see fetchProgress
  error = null; // the last one
  sound = null; // a Sound with samples, or null
  running = false;
  saved = null; // when the last "save" is done
  #requestId = null; // the server's name for the last request
  #controller = null;

  /**
   * @param record what the browser stores of a song: {id, at: ms, group, take, license, request,
   * duration, …}, where takes of one song have the same `group`; `files`, the request's, by the
   * names of their fields; of a song that is made anew from the second `from` on, `before`, the
   * sections before those of its request, and `given`, the `files` of the first take; `model`,
   * `seed`, `revision` and `filename` once it begins; `blob`, the WAV so far, and `seconds`, its
   * length; `isUnfinished` until it ends; `isKept` once the store has it.
   */
  constructor(record) {
    super();
    this.record = { group: record.id, take: 0, ...record };
    // or "waiting", "reconnecting", or in SERVER_STATES
    this.state = record.isUnfinished ? "requesting" : this.#restState;
  }

  /** Seconds of the whole song. */
  get duration() {
    return this.record.duration ?? this.record.request.duration;
  }

  /** Seconds that can be played. */
  get seconds() {
    return this.sound?.seconds ?? this.record.seconds ?? (this.record.blob ? this.duration : 0);
  }

  /** The place among those that wait for a connection, 1 or more. */
  get place() {
    return Math.max(1, queue.indexOf(this) + 1 - MAX_CONCURRENT);
  }

  get #restState() {
    if (this.seconds && this.seconds >= this.duration) return "done";
    return this.seconds > (this.record.from ?? 0) + 0.01 ? "stopped" : "failed";
  }

  /** Requests the song and receives it to its end. Samples that are there stay. */
  async run() {
    const { record } = this;
    this.running = true;
    this.error = null;
    this.progress = null;
    this.#controller = new AbortController();
    this.#setState("requesting");
    try {
      const sound = await this.load();
      sound?.rewind(this.duration, record.from);
      record.isUnfinished = true;
      this.#save();
      this.#pollProgress();
      await this.#receiveWithRetries();
    } catch (error) {
      this.error = this.#controller.signal.aborted ? null : error;
    }
    this.#controller.abort(); // else an answer that is refused here stays open
    record.isUnfinished = false;
    if (this.sound?.complete) record.duration = this.sound.duration;
    else this.sound?.close();
    if (this.sound) this.#keep();
    this.#save();
    await this.saved; // or a reload now would make it again
    this.running = false;
    this.#setState(this.#restState);
  }

  cancel() {
    this.#controller?.abort();
  }

  /** Changes the rest of a song that is made at the pace of playback. Resolves to the second. */
  async change(values) {
    const { changed_at: second, receipt } = await changeSong(this.#requestId, values);
    this.record.request = receipt;
    this.#save();
    return second;
  }

  /** The Sound, from the stored song if need be; null while there is none. */
  async load() {
    if (this.sound || !this.record.blob) return this.sound;
    const sound = new Sound();
    sound.append(new Uint8Array(await this.record.blob.arrayBuffer()));
    this.sound ??= sound; // Another call may have loaded it meanwhile.
    return this.sound;
  }

  /** Takes what another tab has made of the song. Returns whether it is still unfinished. */
  adopt(record) {
    if (!record) return false;
    const { isStarred, name, seconds, isUnfinished } = record;
    if (this.running) {
      Object.assign(this.record, { isStarred, name });
      this.#setState(this.state);
      return false;
    }
    if (seconds !== this.record.seconds) Object.assign(this, { sound: null, error: null });
    Object.assign(this.record, record);
    this.#setState(isUnfinished ? "generating" : this.#restState);
    return isUnfinished;
  }

  unload() {
    if (!this.running && this.record.blob) this.sound = null;
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
    const { record } = this;
    const { signal } = this.#controller;
    queue.push(this);
    try {
      while (queue.indexOf(this) >= MAX_CONCURRENT) {
        this.#setState("waiting");
        await pause(POLL_MS);
        signal.throwIfAborted();
      }
      if (this.state === "waiting") this.#setState("requesting");
      const id = newId();
      this.#requestId = id;
      if (this.sound) delete record.request.pace; // The samples that are there come as fast as they can.
      const { request, files, revision } = record;
      await generate(request, { id, files, revision, signal }, (response, facts) => {
        Object.assign(record, facts);
        Object.assign(request, { model: facts.model, seed: facts.seed });
        return this.#receive(response.body.getReader());
      });
    } finally {
      queue.splice(queue.indexOf(this), 1);
    }
  }

  async #receive(reader) {
    const sound = this.sound ?? new Sound();
    sound.rewind(this.duration, this.record.from);
    for (;;) {
      const { done, value } = await reader.read(); // Not every browser can iterate over a stream.
      if (done) break;
      sound.append(value);
      if (sound.frames === 0) continue;
      this.sound = sound;
      this.#setState("generating");
      this.#keepSometimes();
    }
    if (!this.sound?.complete) throw new TypeError("incomplete response");
  }

  /** Keeps what has come so that a reload does not lose it. */
  #keepSometimes() {
    const saved = this.record.seconds ?? 0;
    const isDue = this.sound.seconds > SAVED_GROWTH * saved + SAVED_SECONDS;
    if (isDue && !this.sound.complete) {
      this.#keep();
      this.#save();
    }
  }

  #keep() {
    Object.assign(this.record, { blob: this.sound.file(), seconds: this.sound.seconds });
  }

  #save() {
    this.dispatchEvent(new Event("save"));
  }

  async #pollProgress() {
    const { signal } = this.#controller;
    for (;;) {
      await pause(POLL_MS);
      if (!this.running) return;
      const id = this.#requestId;
      const progress = id && (await fetchProgress(id, signal).catch(({ code }) => ({ code })));
      if (progress?.code === "unauthorized") return; // Each poll would ask the user for the key.
      const isOutdated = !this.running || id !== this.#requestId;
      if (!progress?.state || isOutdated) continue;
      this.progress = progress;
      if (SERVER_STATES.includes(progress.state)) this.#setState(progress.state);
    }
  }

  #setState(state) {
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
}
