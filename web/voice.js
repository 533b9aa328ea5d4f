/** One sounding of a song from a position on: without a gap, for as long as samples are there. */

const LEAD = 0.03; // seconds from now to the first sample
const FADE = 0.01; // seconds in which a beginning or an end is no click

export class Voice {
  #context;
  #sound;
  #loop;
  #rise; // fades in and out where it is started and stopped
  #hem; // fades out before samples that are not there
  #begin; // the context's time of the first sample
  #from; // its frame
  #until; // the frame up to which all are scheduled
  #next = 0; // the block that comes next

  /** @param loop {from, to} in seconds, or null. All of it has to be there. */
  constructor(context, output, sound, from, loop) {
    this.#context = context;
    this.#sound = sound;
    this.#loop = loop;
    this.#begin = Math.ceil((context.currentTime + LEAD) * sound.rate) / sound.rate;
    this.#from = this.#until = Math.round(from * sound.rate);
    this.#hem = new GainNode(context);
    this.#rise = new GainNode(context, { gain: 0 });
    this.#hem.connect(this.#rise).connect(output);
    this.#ramp(this.#rise.gain, this.#begin, 0, 1);
    if (loop) this.#repeat();
    else this.extend();
  }

  /** The song's second that sounds now. */
  get position() {
    const gone = Math.max(0, this.#context.currentTime - this.#begin);
    const at = this.#from / this.#sound.rate + gone;
    if (!this.#loop) return Math.min(at, this.#until / this.#sound.rate);
    const { from, to } = this.#loop;
    return at < to ? at : from + ((at - from) % (to - from));
  }

  get ended() {
    return this.#sound.complete && !this.#loop && this.#left <= 0;
  }

  /** Whether it has come to where no samples are yet. */
  get starved() {
    return !this.#sound.complete && !this.#loop && this.#left <= FADE;
  }

  /** Schedules what has come since. */
  extend() {
    const { blocks, rate, complete } = this.#sound;
    if (this.#loop || this.starved && this.#next) return;
    let at = blocks.slice(0, this.#next).reduce((sum, { length }) => sum + length, 0);
    for (; this.#next < blocks.length; this.#next++) {
      const block = blocks[this.#next], skipped = Math.max(0, this.#from - at);
      if (skipped < block.length) {
        const source = new AudioBufferSourceNode(this.#context, { buffer: block });
        source.connect(this.#hem);
        source.start(this.#timeOf(at + skipped), skipped / rate);
      }
      at += block.length;
    }
    this.#until = Math.max(at, this.#from);
    this.#hem.gain.cancelScheduledValues(0);
    this.#hem.gain.value = 1;
    if (!complete) this.#ramp(this.#hem.gain, this.#timeOf(this.#until) - FADE, 1, 0);
  }

  stop() {
    const now = this.#context.currentTime, { gain } = this.#rise;
    gain.cancelScheduledValues(0);
    this.#ramp(gain, now, now < this.#begin ? 0 : 1, 0);
    setTimeout(() => this.#rise.disconnect(), 1000 * LEAD);
  }

  get #left() {
    return this.#timeOf(this.#until) - this.#context.currentTime;
  }

  #timeOf(frame) {
    return this.#begin + (frame - this.#from) / this.#sound.rate;
  }

  #ramp(gain, time, from, to) {
    gain.setValueAtTime(from, time);
    gain.linearRampToValueAtTime(to, time + FADE);
  }

  /** From where it begins to the part's end, and then the part for ever. */
  #repeat() {
    const { from, to } = this.#loop, at = this.#from / this.#sound.rate;
    const pieces = [[this.#sound.part(at, to), this.#begin], [this.#sound.part(from, to), this.#begin + to - at]];
    for (const [i, [buffer, time]] of pieces.entries()) {
      const source = new AudioBufferSourceNode(this.#context, { buffer, loop: i === 1 });
      source.connect(this.#hem);
      source.start(time);
    }
  }
}
