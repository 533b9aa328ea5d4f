/** Plays a song from one second on, without a gap, for as long as samples are there. */

const LEAD = 0.03; // seconds from now to the first sample
export const FADE = 0.01; // seconds of fading at each end, which would click otherwise
const LEVELLING = 1; // seconds in which a song that is complete takes its gain

export class Voice {
  loop; // {from, to} in seconds, or null
  #context;
  #sound;
  #fader;
  #leveller;
  #gain;
  #sources = [];
  #start; // the song's second that plays first
  #firstFrame;
  #scheduledFrames; // up to this frame all are scheduled
  #startTime; // when the first sample plays, in the context's time

  /**
   * @param start in seconds
   * @param loop all of it received already
   */
  constructor(output, sound, start, loop) {
    this.#context = output.context;
    this.#sound = sound;
    this.loop = loop;
    this.#start = start;
    this.#firstFrame = Math.round(start * sound.rate);
    this.#scheduledFrames = this.#firstFrame;
    this.#fader = new GainNode(this.#context, { gain: 0 });
    this.#gain = sound.gain;
    this.#leveller = new GainNode(this.#context, { gain: this.#gain });
    this.#fader.connect(this.#leveller).connect(output);
    // Reading the samples takes time, so it precedes the choice of the start time.
    const buffer = loop ? sound.buffer(0, Math.round(loop.to * sound.rate)) : this.#newSamples();
    const earliest = this.#context.currentTime + LEAD;
    this.#startTime = Math.ceil(earliest * sound.rate) / sound.rate;
    if (loop) this.#scheduleLoop(buffer);
    else this.#append(buffer);
    this.#ramp(this.#startTime, 0, 1);
  }

  /** In seconds of the song. */
  get position() {
    const elapsed = Math.max(0, this.#context.currentTime - this.#startTime);
    const position = this.#start + elapsed;
    if (!this.loop) return Math.min(position, this.#scheduledFrames / this.#sound.rate);
    const { from, to } = this.loop;
    return position < to ? position : from + ((position - from) % (to - from));
  }

  /** Seconds that are scheduled and not played yet. */
  get secondsLeft() {
    return this.#endTime - this.#context.currentTime;
  }

  get isWhole() {
    return this.#sound.complete && this.#scheduledFrames >= this.#sound.frames;
  }

  extend() {
    this.#level();
    if (!this.loop) this.#append(this.#newSamples());
  }

  stop() {
    const now = this.#context.currentTime;
    for (const source of this.#sources) source.stop(now + FADE);
    if (this.secondsLeft < FADE) return; // It fades already, or has ended.
    this.#fader.gain.cancelScheduledValues(0);
    this.#ramp(now, now < this.#startTime ? 0 : 1, 0);
  }

  get #endTime() {
    if (this.loop) return Infinity;
    return this.#startTime + (this.#scheduledFrames - this.#firstFrame) / this.#sound.rate;
  }

  #newSamples() {
    if (this.#scheduledFrames >= this.#sound.frames) return null;
    return this.#sound.buffer(this.#scheduledFrames, this.#sound.frames);
  }

  #append(buffer) {
    if (!buffer) return;
    this.#cancelFadeOut();
    this.#schedule(buffer, this.#endTime);
    this.#scheduledFrames += buffer.length;
    if (!this.#sound.complete) this.#ramp(this.#endTime - FADE, 1, 0);
  }

  /** Keeps the fade-in at the start. */
  #cancelFadeOut() {
    const afterFadeIn = this.#startTime + FADE + 1 / this.#sound.rate;
    this.#fader.gain.cancelScheduledValues(Math.max(this.#endTime - FADE, afterFadeIn));
  }

  #level() {
    const { gain } = this.#sound;
    if (gain === this.#gain) return;
    this.#gain = gain;
    this.#leveller.gain.setTargetAtTime(gain, this.#context.currentTime, LEVELLING);
  }

  #scheduleLoop(buffer) {
    const { from, to } = this.loop;
    const options = { loop: true, loopStart: from, loopEnd: to };
    this.#schedule(buffer, this.#startTime, this.#start, options);
  }

  #schedule(buffer, time, offset = 0, options = {}) {
    const source = new AudioBufferSourceNode(this.#context, { buffer, ...options });
    source.connect(this.#fader);
    source.start(time, offset);
    this.#sources.push(source);
  }

  #ramp(time, from, to) {
    this.#fader.gain.setValueAtTime(from, time);
    this.#fader.gain.linearRampToValueAtTime(to, time + FADE);
  }
}
