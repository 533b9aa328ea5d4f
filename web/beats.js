/** The beats of a song: those near a second, by the onsets of its notes. */

import { clamp } from "./ui.js";

const RATE = 100; // onsets a second
const SPAN = 8; // seconds that are looked at
const PERIODS = { from: 36, to: 86, step: 0.25 }; // in onsets: 167 to 70 beats a minute

export function nearestBeat(sound, second) {
  const begin = Math.max(0, Math.min(second - SPAN / 2, sound.seconds - SPAN));
  const onsets = measureOnsets(sound, begin);
  let best = { strength: 0, period: 1, phase: 0 };
  for (let period = PERIODS.from; period <= PERIODS.to; period += PERIODS.step) {
    for (let phase = 0; phase < period; phase++) {
      const strength = strengthOf(onsets, period, phase);
      if (strength > best.strength) best = { strength, period, phase };
    }
  }
  const { period, phase } = best;
  const beat = Math.round(((second - begin) * RATE - phase) / period);
  return clamp(begin + (phase + beat * period) / RATE, 0, sound.seconds);
}

/** How much louder each hundredth of a second is than the one before. */
function measureOnsets(sound, begin) {
  const step = sound.rate / RATE;
  const first = Math.round(begin * sound.rate);
  const count = Math.floor(Math.min(SPAN, sound.seconds - begin) * RATE);
  let last = 0;
  return Array.from({ length: count }, (_, index) => {
    const [low, high] = sound.extremes(first + index * step, first + (index + 1) * step);
    const rise = Math.max(0, high - low - last);
    last = high - low;
    return rise;
  });
}

function strengthOf(onsets, period, phase) {
  let [sum, count] = [0, 0];
  for (let at = phase; at < onsets.length; at += period) {
    const index = Math.round(at);
    sum += Math.max(onsets[index - 1] ?? 0, onsets[index] ?? 0, onsets[index + 1] ?? 0);
    count++;
  }
  return sum / Math.max(count, 4); // Few beats prove nothing.
}
