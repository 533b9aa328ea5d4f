/** Plays one song at a time, also one that is still being made. */

import { Voice } from "./voice.js";

const RATE = 32000; // Hz, MusicGen's: no sample is changed on its way

export class Player {
  state = "paused"; // or "playing", or "buffering": the music comes slower than it plays
  sound = null;
  loop = null; // {from, to} in seconds
  #context = null;
  #volume = null;
  #voice = null;
  #position = 0;
  #level = 1;

  /** Has to be called while the user presses something: browsers play nothing unasked. */
  unlock() {
    if (!this.#context) {
      this.#context = new AudioContext({ sampleRate: RATE });
      this.#volume = new GainNode(this.#context, { gain: this.#level });
      this.#volume.connect(this.#context.destination);
    }
    return this.#context.resume();
  }

  get position() {
    return this.#voice?.position ?? this.#position;
  }

  set volume(level) {
    this.#level = level ** 2; // as loud as it looks
    this.#volume?.gain.setTargetAtTime(this.#level, this.#context.currentTime, 0.02);
  }

  /** Plays `sound` from there; a loop is a song's own, and ends with it. */
  play(sound = this.sound, position = this.position) {
    if (sound !== this.sound) this.loop = null;
    this.sound = sound;
    this.unlock();
    const end = sound.complete && position >= sound.duration;
    this.#start(end ? 0 : Math.min(position, sound.seconds));
  }

  pause() {
    this.#silence();
    this.state = "paused";
  }

  /** Moves within what is there; what plays goes on from there. */
  seek(position) {
    const { from = 0, to = this.sound.seconds } = this.loop ?? {};
    const place = Math.min(Math.max(from, position), to);
    if (this.state === "paused") this.#position = place;
    else this.#start(place);
  }

  /** Repeats a part, or none (null). */
  repeat(loop) {
    const position = this.position;
    this.loop = loop;
    if (loop && (position < loop.from || position >= loop.to)) this.seek(loop.from);
    else this.seek(position);
  }

  /** Forgets a song that is no more. */
  leave(sound) {
    if (sound !== this.sound) return;
    this.pause();
    Object.assign(this, { sound: null, loop: null });
    this.#position = 0;
  }

  /** More of the song has come, or time has passed. */
  update() {
    if (this.state === "paused") return;
    if (this.#voice?.ended) {
      this.#position = this.sound.duration;
      this.#voice = null;
      this.state = "paused";
    } else if (this.#voice?.starved) {
      this.#silence();
      this.state = "buffering";
    } else if (this.#voice) {
      this.#voice.extend();
    }
    if (this.state === "buffering" && this.sound.lasts(this.#position)) this.#start(this.#position);
  }

  #start(position) {
    this.#silence();
    this.#position = position;
    this.#voice = new Voice(this.#context, this.#volume, this.sound, position, this.loop);
    this.state = "playing";
  }

  #silence() {
    this.#position = this.position;
    this.#voice?.stop();
    this.#voice = null;
  }
}
