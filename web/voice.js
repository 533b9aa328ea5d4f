/** One sounding of a song from a second on: without a gap, for as long as samples are there. */

const LEAD = 0.03; // seconds from now to the first sample
export const FADE = 0.01; // seconds in which a beginning or an end is no click

/**
 * @param loop {from, to} in seconds, or null. All of it has to be there.
 * @returns {position(), left(): seconds that are scheduled, isWhole(), extend(): schedules what has come, stop()}
 */
export function createVoice(output, sound, start, loop) {
  const { context } = output, { rate } = sound;
  const first = Math.round(start * rate);
  let until = first; // the frame up to which all are scheduled
  const coming = () => (until < sound.filled ? sound.part(until, sound.filled) : null);
  const opening = loop ? sound.part(0, Math.round(loop.to * rate)) : coming(); // takes some time itself
  const begin = Math.ceil((context.currentTime + LEAD) * rate) / rate; // when the first sample sounds
  const end = () => (loop ? Infinity : begin + (until - first) / rate);
  const isWhole = () => sound.complete && until >= sound.filled;
  const left = () => end() - context.currentTime;
  const fader = new GainNode(context, { gain: 0 });
  const sources = [];
  fader.connect(output);
  if (loop) schedule(opening, begin, start, { loop: true, loopStart: loop.from, loopEnd: loop.to });
  else append(opening);
  ramp(begin, 0, 1);
  return { position, left, isWhole, extend: () => loop || append(coming()), stop };

  function append(part) {
    if (!part) return;
    fader.gain.cancelScheduledValues(Math.max(end() - FADE, begin + FADE + 1 / rate)); // It goes on there.
    schedule(part, end());
    until += part.length;
    if (!sound.complete) ramp(end() - FADE, 1, 0);
  }

  function schedule(buffer, time, offset = 0, looped = {}) {
    const source = new AudioBufferSourceNode(context, { buffer, ...looped });
    source.connect(fader);
    source.start(time, offset);
    sources.push(source);
  }

  function ramp(time, from, to) {
    fader.gain.setValueAtTime(from, time);
    fader.gain.linearRampToValueAtTime(to, time + FADE);
  }

  function position() {
    const at = start + Math.max(0, context.currentTime - begin);
    if (!loop) return Math.min(at, until / rate);
    return at < loop.to ? at : loop.from + ((at - loop.from) % (loop.to - loop.from));
  }

  function stop() {
    const now = context.currentTime;
    for (const source of sources) source.stop(now + FADE);
    if (left() < FADE) return; // It fades, or has ended.
    fader.gain.cancelScheduledValues(0);
    ramp(now, now < begin ? 0 : 1, 0);
  }
}
