/** A song's 16-bit WAV file while it is received: its header and its samples. */

import { Meter } from "./loudness.js";

const FRAME_RATE = 50; // Hz, the model's: songs are cut between its frames
export const OVERLAP = 0.06; // seconds in which the end of what is there fades into a new part
const HEADER = 44; // bytes of a WAV before its samples
const [FILE_SIZE, CHANNELS, RATE, DATA_SIZE] = [1, 5, 6, 10]; // 32-bit words of it
const UNCOUNTED = 8; // bytes at the file's beginning that its size leaves out
const SAMPLE_BYTES = 2;
const MIN_BUFFER = 0.5; // seconds to collect before playback resumes
// IPTC's term for a sound that a machine made. The server's files have the same tag.
const SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia";
const INFO = new TextEncoder().encode(`LIST\x54\0\0\0INFOISRF\x48\0\0\0${SOURCE_TYPE}\0\0`);

export class Sound {
  frames = 0; // that can be played
  rate = 0; // Hz
  channels = 0;
  duration = 0; // seconds of the whole song
  gain = 1; // with which all songs are equally loud; known when the song is complete
  #header = null; // its 32-bit words
  #beginning = new Uint8Array(0); // of the stream; null once its header is read
  #data = new Uint8Array(0); // samples, and the file's tags behind them, with room for more
  #kept = 0; // bytes of it
  #cursor = 0; // the byte of it at which the stream goes on
  #start = 0; // the frame at which the stream starts
  #blended = 0; // frames of the stream's start that fade in
  #meter = null;
  #firstMusic = null; // {time: ms, cursor: bytes} when the first samples arrived

  append(bytes) {
    const samples = this.#beginning ? this.#begin(bytes) : bytes;
    if (!samples) return;
    this.#store(samples);
    this.#firstMusic ??= { time: performance.now(), cursor: this.#cursor };
    const received = Math.floor(this.#cursor / this.#frameBytes);
    const frames = Math.max(this.frames, Math.min(received, this.#allFrames));
    this.#meter ??= new Meter(this.rate, this.channels);
    this.#meter.append(this.#samples(this.frames, frames));
    this.frames = frames;
    if (this.complete) this.gain = this.#meter.gain();
  }

  /** The loudest sample so far, 0 to 1. */
  get peak() {
    return this.#meter?.peak ?? 0;
  }

  /** Seconds that can be played. */
  get seconds() {
    return this.rate && this.frames / this.rate;
  }

  get complete() {
    return this.seconds >= this.duration;
  }

  /**
   * Prepares for a stream of this song, of `duration` seconds: the same file as before, or its part
   * after the second `from`. Samples that are there stay.
   */
  rewind(duration, from = 0) {
    this.duration = duration;
    this.#kept = this.frames * this.#frameBytes;
    this.#start = Math.round((from && from - OVERLAP) * this.rate);
    this.#blended = Math.round(from * this.rate) === this.frames ? this.frames - this.#start : 0;
    this.#beginning = new Uint8Array(0);
    this.#firstMusic = null;
  }

  /** Ends the song with its last whole frame of the model, if no more of it will come. */
  close() {
    this.frames -= this.frames % (this.rate / FRAME_RATE);
    this.duration = this.seconds;
    this.gain = this.#meter.gain();
  }

  /** Whether playback from that second would reach the end without a break at the current speed. */
  canPlayThrough(position) {
    if (this.complete || !this.#firstMusic) return this.complete;
    const secondBytes = this.#frameBytes * this.rate;
    const elapsed = (performance.now() - this.#firstMusic.time) / 1000;
    const speed = (this.#cursor - this.#firstMusic.cursor) / secondBytes / elapsed;
    const missing = this.duration - this.#cursor / secondBytes;
    const isFastEnough = missing / speed < this.duration - position;
    return isFastEnough && this.seconds - position > MIN_BUFFER;
  }

  buffer(begin, end) {
    const { channels, rate } = this;
    const samples = this.#samples(begin, end);
    const buffer = new AudioBuffer({
      length: end - begin,
      numberOfChannels: channels,
      sampleRate: rate,
    });
    for (let channel = 0; channel < channels; channel++) {
      const floats = buffer.getChannelData(channel);
      for (let frame = 0; frame < floats.length; frame++) {
        floats[frame] = samples[frame * channels + channel] / 32767;
      }
    }
    return buffer;
  }

  /** The lowest and the highest sample of the frames from `begin` to `end`, -1 to 1. */
  extremes(begin, end) {
    let [low, high] = [0, 0];
    const samples = this.#samples(begin, Math.min(end, this.frames));
    for (let at = 0; at < samples.length; at++) {
      low = Math.min(low, samples[at]);
      high = Math.max(high, samples[at]);
    }
    return [low / 32768, high / 32768];
  }

  /** A WAV file of the seconds from `begin` to `end`, or of all that can be played. */
  file(begin = 0, end = this.seconds) {
    const [first, last] = [begin, end].map((second) => Math.round(second * this.rate));
    const samples = this.#data.slice(first * this.#frameBytes, last * this.#frameBytes);
    const tags = last - first === this.#allFrames ? this.#tags() : INFO;
    const header = this.#header.slice();
    header[FILE_SIZE] = HEADER + samples.length + tags.length - UNCOUNTED;
    header[DATA_SIZE] = samples.length;
    return new Blob([header, samples, tags], { type: "audio/wav" });
  }

  get #frameBytes() {
    return SAMPLE_BYTES * this.channels;
  }

  get #allFrames() {
    return Math.round(this.duration * this.rate);
  }

  /** Those of the stream if it was the whole file. */
  #tags() {
    const size = this.#header[FILE_SIZE] + UNCOUNTED;
    const isWhole = !this.#start && HEADER + this.#cursor === size;
    return isWhole ? this.#data.slice(this.frames * this.#frameBytes, this.#cursor) : INFO;
  }

  /** The interleaved samples of the frames from `begin` to `end`. */
  #samples(begin, end) {
    const length = Math.max(0, end - begin) * this.channels;
    return new Int16Array(this.#data.buffer, begin * this.#frameBytes, length);
  }

  /** Takes bytes until the header, and what fades in, are there. Returns those behind the header. */
  #begin(bytes) {
    const beginning = new Uint8Array(this.#beginning.length + bytes.length);
    beginning.set(this.#beginning);
    beginning.set(bytes, this.#beginning.length);
    this.#beginning = beginning;
    const length = HEADER + this.#blended * this.#frameBytes;
    if (beginning.length < length) return null;
    this.#header = new Uint32Array(beginning.buffer.slice(0, HEADER));
    this.channels = this.#header[CHANNELS] >> 16;
    this.rate = this.#header[RATE];
    const frames = this.#header[DATA_SIZE] / this.#frameBytes;
    this.duration = (this.#start + frames) / this.rate;
    this.#cursor = this.#start * this.#frameBytes;
    this.#beginning = null;
    if (this.#blended) this.#blend(beginning.slice(HEADER, length));
    return beginning.subarray(HEADER);
  }

  #blend(bytes) {
    const old = this.#samples(this.#start, this.#start + this.#blended);
    const fresh = new Int16Array(bytes.buffer);
    for (let at = 0; at < old.length; at++) {
      old[at] += ((fresh[at] - old[at]) * (at + 1)) / old.length;
    }
    this.#blended = 0;
  }

  #store(bytes) {
    const known = Math.min(Math.max(this.#kept - this.#cursor, 0), bytes.length);
    const end = this.#cursor + bytes.length;
    if (end > this.#data.length) this.#data = new Uint8Array(this.#data.buffer.transfer(2 * end));
    this.#data.set(bytes.subarray(known), this.#cursor + known);
    this.#cursor = end;
    this.#kept = Math.max(this.#kept, end);
  }
}
