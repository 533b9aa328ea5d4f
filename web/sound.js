/** A song as a 16-bit WAV that is still coming: its bytes, and how loud they are. */

export const PEAK_RATE = 50; // Hz
const FIRST = 12, DATA = 0x64617461; // bytes before a WAV's first chunk; the name of the last one
const AHEAD = 0.5; // seconds that are gathered at least before playing goes on

export class Sound {
  filled = 0; // frames
  peaks = []; // the loudest of each fiftieth of a second, 0 to 1
  #bytes = new Uint8Array(0); // of the file, and room for more
  #at = 0; // how many have come
  #header = 0; // how many come before the samples, 0 while that is not known
  #begun = null; // {time: ms, filled} when music came first

  /** Takes the next bytes of the file. */
  append(bytes) {
    const end = this.#at + bytes.length, before = this.#bytes;
    if (end > before.length) this.#bytes = new Uint8Array(Math.max(end, 2 * before.length));
    if (this.#bytes !== before) this.#bytes.set(before);
    this.#bytes.set(bytes, this.#at);
    this.#at = end;
    if (!this.#header && !this.#readHeader()) return;
    this.filled = Math.max(this.filled, Math.floor((end - this.#header) / 2 / this.channels));
    this.#begun ??= { time: performance.now(), at: end };
    const step = (this.rate / PEAK_RATE) * this.channels, samples = this.#samples(0, this.filled);
    const loudest = (peak, sample) => Math.max(peak, Math.abs(sample));
    for (let at = this.peaks.length * step; at + step <= samples.length; at += step) {
      this.peaks.push(samples.subarray(at, at + step).reduce(loudest, 0) / 32768);
    }
  }

  get seconds() { return this.filled / this.rate; }
  get complete() { return this.seconds >= this.duration; }

  /** The file comes once more from its beginning, and is the same. */
  rewind() { this.#at = 0; this.#begun = null; }

  /** No more of it will come: it ends with its last whole frame. */
  close() {
    this.filled -= this.filled % (this.rate / PEAK_RATE);
    this.duration = this.seconds;
  }

  /** Whether it can be played from there without a break, at the speed at which it comes. */
  lasts(seconds) {
    if (!this.#begun) return this.complete;
    const { time, at } = this.#begun, second = 2 * this.channels * this.rate; // in bytes
    const speed = (this.#at - at) / second / ((performance.now() - time) / 1000);
    const missing = this.duration - (this.#at - this.#header) / second;
    return this.complete || (missing / speed < this.duration - seconds && this.seconds - seconds > AHEAD);
  }

  /** An AudioBuffer of the frames from one to another. */
  part(from, to) {
    const { channels, rate } = this, samples = this.#samples(from, to);
    const part = new AudioBuffer({ length: to - from, numberOfChannels: channels, sampleRate: rate });
    for (let channel = 0; channel < channels; channel++) {
      const floats = part.getChannelData(channel);
      for (let i = 0; i < floats.length; i++) floats[i] = samples[i * channels + channel] / 32767;
    }
    return part;
  }

  /** What has come as a file, or its beginning. */
  file(frames = this.filled) {
    const bytes = this.#bytes.slice(0, this.#header + 2 * this.channels * frames);
    const view = new DataView(bytes.buffer);
    view.setUint32(4, bytes.length - 8, true);
    view.setUint32(this.#header - 4, bytes.length - this.#header, true);
    return new Blob([bytes], { type: "audio/wav" });
  }

  /** Of the frames from one to another, interleaved. */
  #samples(from, to) {
    const { channels } = this;
    return new Int16Array(this.#bytes.buffer, this.#header + 2 * channels * from, (to - from) * channels);
  }

  /** Whether all of it is there. */
  #readHeader() {
    const view = new DataView(this.#bytes.buffer), sizeAt = (at) => view.getUint32(at + 4, true);
    let at = FIRST;
    while (at + 8 <= this.#at && view.getUint32(at) !== DATA) at += 8 + 2 * Math.ceil(sizeAt(at) / 2);
    if (at + 8 > this.#at) return false;
    this.channels = view.getUint16(22, true);
    this.rate = view.getUint32(24, true);
    this.duration = sizeAt(at) / 2 / this.channels / this.rate;
    this.#header = at + 8;
    return true;
  }
}
