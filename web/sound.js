/** A song's samples, as many as have come. */

const PEAKS = 50; // a second

export class Sound {
  blocks = []; // AudioBuffers, end to end
  peaks = []; // the loudest of each fiftieth of a second, 0 to 1
  filled = 0; // frames
  #came = performance.now();
  #first = 0; // frames that came with the first block
  #loudest = 0;

  /** @param format {channels, rate: Hz, length: frames of the whole} */
  constructor({ channels, rate, length }) {
    Object.assign(this, { channels, rate, length });
  }

  /** @param pcm Int16Array of whole frames, interleaved */
  append(pcm) {
    const frames = pcm.length / this.channels;
    if (!frames) return;
    const options = { length: frames, numberOfChannels: this.channels, sampleRate: this.rate };
    const block = new AudioBuffer(options);
    for (let channel = 0; channel < this.channels; channel++) {
      const samples = block.getChannelData(channel);
      for (let i = 0; i < frames; i++) samples[i] = pcm[i * this.channels + channel] / 32767;
    }
    this.#measure(pcm);
    this.blocks.push(block);
    this.filled += frames;
    this.#first ||= this.filled;
  }

  get complete() {
    return this.filled >= this.length;
  }

  get seconds() {
    return this.filled / this.rate;
  }

  get duration() {
    return this.length / this.rate;
  }

  /** Whether it can be played from there without a break, at the speed at which it comes. */
  lasts(seconds) {
    const speed = (this.filled - this.#first) / this.rate / ((performance.now() - this.#came) / 1000);
    return this.complete || (this.duration - this.seconds) / speed < this.duration - seconds;
  }

  /** The part between two times in one piece. */
  part(from, to) {
    const [start, end] = [from, to].map((seconds) => Math.round(seconds * this.rate));
    const options = { length: end - start, numberOfChannels: this.channels, sampleRate: this.rate };
    const part = new AudioBuffer(options);
    let at = 0;
    for (const block of this.blocks) {
      for (let channel = 0; channel < this.channels; channel++) {
        const samples = block.getChannelData(channel);
        const inside = samples.subarray(Math.max(0, start - at), Math.max(0, end - at));
        part.copyToChannel(inside, channel, Math.max(0, at - start));
      }
      at += block.length;
    }
    return part;
  }

  #measure(pcm) {
    const step = this.rate / PEAKS;
    for (let i = 0; i < pcm.length; i += this.channels) {
      for (let c = 0; c < this.channels; c++) {
        this.#loudest = Math.max(this.#loudest, Math.abs(pcm[i + c]) / 32767);
      }
      if ((this.filled + i / this.channels + 1) % step === 0) {
        this.peaks.push(this.#loudest);
        this.#loudest = 0;
      }
    }
  }
}
