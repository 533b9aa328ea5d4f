/** A song's 16-bit WAV file while it is received: its bytes, samples and peaks. */

import { Meter } from "./loudness.js";

export const PEAK_RATE = 50; // Hz
const FIRST_CHUNK = 12; // bytes before a WAV's first chunk
const CHUNK_HEADER = 8; // bytes of a chunk's name and size
const DATA_CHUNK = 0x64617461; // "data", the name of the chunk of the samples
const SAMPLE_BYTES = 2;
const MIN_BUFFER = 0.5; // seconds to collect before playback resumes
// IPTC's term for a sound that a machine made. The server's files have the same tag.
const SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia";
const INFO = `LIST\x54\0\0\0INFOISRF\x48\0\0\0${SOURCE_TYPE}\0\0`;

export class Sound {
  frames = 0; // received so far
  peaks = []; // the loudest sample of each fiftieth of a second, 0 to 1
  rate = 0; // Hz
  channels = 0;
  duration = 0; // seconds of the whole song
  #bytes = new Uint8Array(0); // of the file, with room for more
  #received = 0; // bytes
  #headerLength = 0; // bytes before the samples; 0 until it is known
  #allFrames = 0; // of the whole song; the file's tags are behind them
  #meter = null;
  #measuredFrames = 0; // by the meter
  #gain = null;
  #firstMusic = null; // {time: ms, received: bytes} when the first samples arrived

  /** Takes the next bytes of the file. */
  append(bytes) {
    this.#store(bytes);
    if (!this.#headerLength && !this.#readHeader()) return;
    this.#firstMusic ??= { time: performance.now(), received: this.#received };
    const frames = Math.floor((this.#received - this.#headerLength) / this.#frameBytes);
    this.frames = Math.max(this.frames, Math.min(frames, this.#allFrames));
    this.#measurePeaks();
    this.#meter ??= new Meter(this.rate, this.channels);
    this.#meter.append(this.#samples(this.#measuredFrames, this.frames));
    this.#measuredFrames = this.frames;
  }

  /** The gain with which all songs are equally loud; 1 until the song is complete. */
  get gain() {
    if (!this.complete) return 1;
    this.#gain ??= this.#meter.gain(this.peaks.reduce((most, peak) => Math.max(most, peak), 0));
    return this.#gain;
  }

  /** Seconds received so far. */
  get seconds() {
    return this.frames / this.rate;
  }

  get complete() {
    return this.seconds >= this.duration;
  }

  /** Prepares for the same file from its beginning. */
  rewind() {
    this.#received = 0;
    this.#firstMusic = null;
  }

  /** Ends the song with its last whole peak, if no more of it will come. */
  close() {
    this.frames -= this.frames % (this.rate / PEAK_RATE);
    this.duration = this.seconds;
  }

  /** Whether playback from that second would reach the end without a break at the current speed. */
  canPlayThrough(position) {
    if (this.complete || !this.#firstMusic) return this.complete;
    const secondBytes = this.#frameBytes * this.rate;
    const elapsed = (performance.now() - this.#firstMusic.time) / 1000;
    const speed = (this.#received - this.#firstMusic.received) / secondBytes / elapsed;
    const missing = this.duration - (this.#received - this.#headerLength) / secondBytes;
    const isFastEnough = missing / speed < this.duration - position;
    return isFastEnough && this.seconds - position > MIN_BUFFER;
  }

  /** An AudioBuffer of the frames from `begin` to `end`. */
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

  /** A WAV file of the first frames, or of all that are received. */
  file(frames = this.frames) {
    const end = this.#headerLength + frames * this.#frameBytes;
    const header = this.#bytes.slice(0, this.#headerLength);
    const view = new DataView(header.buffer);
    const hasTags = this.#received === view.getUint32(4, true) + CHUNK_HEADER;
    const tags =
      hasTags && frames === this.#allFrames
        ? this.#bytes.slice(end, this.#received)
        : new TextEncoder().encode(INFO);
    view.setUint32(4, end + tags.length - CHUNK_HEADER, true);
    view.setUint32(this.#headerLength - 4, end - this.#headerLength, true);
    return new Blob([header, this.#bytes.slice(this.#headerLength, end), tags], {
      type: "audio/wav",
    });
  }

  get #frameBytes() {
    return SAMPLE_BYTES * this.channels;
  }

  #store(bytes) {
    const end = this.#received + bytes.length;
    if (end > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(end, 2 * this.#bytes.length));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes.set(bytes, this.#received);
    this.#received = end;
  }

  #measurePeaks() {
    const step = (this.rate / PEAK_RATE) * this.channels;
    const samples = this.#samples(0, this.frames);
    const louder = (peak, sample) => Math.max(peak, Math.abs(sample));
    for (let at = this.peaks.length * step; at + step <= samples.length; at += step) {
      this.peaks.push(samples.subarray(at, at + step).reduce(louder, 0) / 32768);
    }
  }

  /** The interleaved samples of the frames from `begin` to `end`. */
  #samples(begin, end) {
    const offset = this.#headerLength + begin * this.#frameBytes;
    return new Int16Array(this.#bytes.buffer, offset, (end - begin) * this.channels);
  }

  /** Reads the format and the length of the song. Returns false while bytes of it are missing. */
  #readHeader() {
    const view = new DataView(this.#bytes.buffer);
    const sizeOf = (start) => view.getUint32(start + 4, true);
    let chunk = FIRST_CHUNK; // its first byte
    while (chunk + CHUNK_HEADER <= this.#received && view.getUint32(chunk) !== DATA_CHUNK) {
      chunk += CHUNK_HEADER + 2 * Math.ceil(sizeOf(chunk) / 2); // Sizes are padded to be even.
    }
    if (chunk + CHUNK_HEADER > this.#received) return false;
    this.channels = view.getUint16(22, true);
    this.rate = view.getUint32(24, true);
    this.#allFrames = sizeOf(chunk) / this.#frameBytes;
    this.duration = this.#allFrames / this.rate;
    this.#headerLength = chunk + CHUNK_HEADER;
    return true;
  }
}
