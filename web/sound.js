/** A song as a 16-bit WAV that is still coming: its header, its samples and how loud they are. */

export const PEAK_RATE = 50; // Hz
const SECOND = 36, DATA = 0x64617461; // bytes before a WAV's second chunk; the name of the last one
const AHEAD = 0.5; // seconds that are gathered at least before playing goes on

export class Sound {
  filled = 0; // frames
  peaks = []; // the loudest of each fiftieth of a second, 0 to 1
  #header; // bytes
  #begun = new Uint8Array(0); // of a header that is not whole yet
  #samples = null; // Int16Array, interleaved
  #at = null; // bytes of samples that have come, null before the header is whole
  #first = null; // {time: ms, filled} when music came first

  /** Takes the next bytes of the file. */
  append(bytes) {
    if (this.#at === null) bytes = this.#read(bytes);
    if (!bytes) return;
    new Uint8Array(this.#samples.buffer).set(bytes, this.#at);
    this.#at += bytes.length;
    this.filled = Math.max(this.filled, Math.floor(this.#at / 2 / this.channels));
    this.#first ??= { time: performance.now(), filled: this.filled };
    const step = (this.rate / PEAK_RATE) * this.channels;
    const loudest = (peak, sample) => Math.max(peak, Math.abs(sample));
    while ((this.peaks.length + 1) * step <= this.filled * this.channels) {
      const from = this.peaks.length * step;
      this.peaks.push(this.#samples.subarray(from, from + step).reduce(loudest, 0) / 32768);
    }
  }

  /** The file comes once more from its beginning, and is the same. */
  rewind() {
    this.#begun = new Uint8Array(0);
    this.#at = null;
  }

  get complete() {
    return this.seconds >= this.duration;
  }

  get seconds() {
    return this.filled / this.rate;
  }

  /** No more of it will come. */
  close() {
    this.duration = this.seconds;
  }

  /** Whether it can be played from there without a break, at the speed at which it comes. */
  lasts(seconds) {
    const { time, filled } = this.#first;
    const speed = (this.filled - filled) / this.rate / ((performance.now() - time) / 1000);
    const inTime = (this.duration - this.seconds) / speed < this.duration - seconds;
    return this.complete || (inTime && this.seconds - seconds > AHEAD);
  }

  /** An AudioBuffer of the frames from one to another. */
  part(from, to) {
    const { channels, rate } = this;
    const part = new AudioBuffer({ length: to - from, numberOfChannels: channels, sampleRate: rate });
    for (let channel = 0; channel < channels; channel++) {
      const samples = part.getChannelData(channel);
      for (let i = 0; i < samples.length; i++) {
        samples[i] = this.#samples[(from + i) * channels + channel] / 32767;
      }
    }
    return part;
  }

  /** What has come as a file, or its beginning. */
  file(frames = this.filled) {
    const size = 2 * this.channels * frames, header = this.#header.slice();
    const view = new DataView(header.buffer);
    view.setUint32(4, header.length - 8 + size, true);
    view.setUint32(header.length - 4, size, true);
    const samples = this.#samples.subarray(0, frames * this.channels);
    return new Blob([header, samples], { type: "audio/wav" });
  }

  /** The bytes after the header, or nothing where not all of it is there. */
  #read(bytes) {
    const head = joined(this.#begun, bytes);
    const view = new DataView(head.buffer), sizeAt = (at) => view.getUint32(at + 4, true);
    let at = SECOND;
    while (at + 8 <= head.length && view.getUint32(at) !== DATA) at += 8 + 2 * Math.ceil(sizeAt(at) / 2);
    if (at + 8 > head.length) {
      this.#begun = head;
      return null;
    }
    this.channels = view.getUint16(22, true);
    this.rate = view.getUint32(24, true);
    this.duration = sizeAt(at) / 2 / this.channels / this.rate;
    this.#samples ??= new Int16Array(sizeAt(at) / 2);
    this.#header = head.slice(0, at + 8);
    this.#at = 0;
    return head.subarray(at + 8);
  }
}

function joined(one, other) {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}
