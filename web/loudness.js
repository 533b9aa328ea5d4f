/** The loudness of a song (ITU-R BS.1770), measured while its samples arrive. */

const STEPS = 10; // a second, between the blocks of the meter
const BLOCK = 4; // steps
const SILENCE = -70; // LUFS; softer blocks do not count
const GATE = 10; // dB; nor do blocks so much softer than the others
const TARGET = -18; // LUFS, as players do by ReplayGain
const MAX_GAIN = 4;
// The two filters of its weighting for 32 kHz: the numerator, and the denominator without its 1.
const SHELF = [1.51117789957, -2.46488941336, 1.04163327352, -1.53904509625, 0.62696685598];
const HIGH_PASS = [1, -2, 1, -1.98508966899, 0.98514532067];

export class Meter {
  #filters; // by channel
  #step; // frames
  #frames = 0; // of the step that is not full
  #power = 0; // the sum of its squares
  #powers = []; // of each full step
  peak = 0; // the loudest sample, 0 to 1

  constructor(rate, channels) {
    this.#filters = Array.from({ length: channels }, createFilter);
    this.#step = rate / STEPS;
  }

  /** Takes the next samples: 16 bits, interleaved. */
  append(samples) {
    const channels = this.#filters.length;
    for (let at = 0; at < samples.length; at += channels) {
      for (let channel = 0; channel < channels; channel++) {
        const sample = samples[at + channel];
        this.#power += this.#filters[channel](sample / 32767) ** 2;
        this.peak = Math.max(this.peak, Math.abs(sample) / 32768);
      }
      if (++this.#frames < this.#step) continue;
      this.#powers.push(this.#power / this.#step);
      this.#frames = 0;
      this.#power = 0;
    }
  }

  /** In LUFS; -Infinity for silence, and for less than a block. */
  get loudness() {
    const blocks = [];
    for (let at = BLOCK; at <= this.#powers.length; at++) {
      blocks.push(mean(this.#powers.slice(at - BLOCK, at)));
    }
    const heard = blocks.filter((power) => level(power) > SILENCE);
    const gate = level(mean(heard)) - GATE;
    return level(mean(heard.filter((power) => level(power) > gate)));
  }

  /** The gain that makes songs equally loud, as far as the peak has room for it. */
  gain() {
    const { loudness } = this;
    if (loudness === -Infinity) return 1;
    return Math.min(10 ** ((TARGET - loudness) / 20), MAX_GAIN, 1 / this.peak);
  }
}

function level(power) {
  return -0.691 + 10 * Math.log10(power);
}

function mean(values) {
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : 0;
}

function createFilter() {
  const [shelf, highPass] = [createBiquad(SHELF), createBiquad(HIGH_PASS)];
  return (sample) => highPass(shelf(sample));
}

function createBiquad([b0, b1, b2, a1, a2]) {
  let [first, second] = [0, 0];
  return (input) => {
    const output = b0 * input + first;
    first = b1 * input - a1 * output + second;
    second = b2 * input - a2 * output;
    return output;
  };
}
