/** One sounding of a song from a second on: without a gap, for as long as samples are there. */

const LEAD = 0.03; // seconds from now to the first sample
export const FADE = 0.01; // seconds in which a beginning or an end is no click

/**
 * @param loop {from, to} in seconds, or null. All of it has to be there.
 * @returns {position(), left(): seconds that are scheduled, extend(): schedules what has come, stop()}
 */
export function createVoice(output, sound, start, loop) {
  const { context } = output, { rate } = sound;
  const first = Math.round(start * rate);
  let until = first; // the frame up to which all are scheduled
  const opening = loop ? sound.part(0, Math.round(loop.to * rate)) : coming(); // takes some time itself
  const begin = Math.ceil((context.currentTime + LEAD) * rate) / rate; // when the first sample sounds
  const hem = new GainNode(context); // fades out before samples that are not there
  const rise = new GainNode(context, { gain: 0 }); // fades in and out where it is started and stopped
  const sources = [];
  hem.connect(rise).connect(output);
  ramp(rise.gain, begin, 0, 1);
  if (loop) schedule(opening, begin, start, { loop: true, loopStart: loop.from, loopEnd: loop.to });
  else append(opening);
  return { position, left, extend, stop };

  function coming() {
    return until < sound.filled ? sound.part(until, sound.filled) : null;
  }

  function schedule(buffer, time, offset = 0, looped = {}) {
    const source = new AudioBufferSourceNode(context, { buffer, ...looped });
    source.connect(hem);
    source.start(time, offset);
    sources.push(source);
  }

  function position() {
    const at = start + Math.max(0, context.currentTime - begin);
    if (!loop) return Math.min(at, until / rate);
    return at < loop.to ? at : loop.from + ((at - loop.from) % (loop.to - loop.from));
  }

  function end() {
    return loop ? Infinity : begin + (until - first) / rate;
  }

  function left() {
    return end() - context.currentTime;
  }

  function extend() {
    if (!loop) append(coming());
  }

  function append(part) {
    if (!part) return;
    schedule(part, end());
    until += part.length;
    hem.gain.cancelScheduledValues(0);
    hem.gain.value = 1;
    if (!sound.complete) ramp(hem.gain, end() - FADE, 1, 0);
  }

  function stop() {
    const now = context.currentTime;
    rise.gain.cancelScheduledValues(0);
    ramp(rise.gain, now, now < begin ? 0 : 1, 0);
    for (const source of sources) source.stop(now + FADE);
  }
}

function ramp(gain, time, from, to) {
  gain.setValueAtTime(from, time);
  gain.linearRampToValueAtTime(to, time + FADE);
}
