/** A take that begins as another one, and is made anew from a second on. */

import { clip, durationOf, FRAME } from "./sections.js";
import { OVERLAP } from "./sound.js";
import { newId, newSeed } from "./ui.js";

const TAIL = 12; // seconds of what is there that the model hears before the new part
const MIN_FROM = 0.5; // seconds; less of the old take is not kept

/** The end of what a new part can go on from: a fade is left out. */
export function beforeFade({ record: { request, from = 0 }, duration, seconds }) {
  const fade = request.ending === "fade" ? Math.min(3, 0.1 * (duration - from)) : 0; // the server's
  return Math.min(seconds, duration - fade);
}

/** Its record (see Generation), with the sections of the whole take. */
export async function remake(take, sections, second) {
  const { request, files, group, license } = take.record;
  const given = take.record.from ? take.record.given : files; // not the tail of another take
  const sound = await take.load();
  const from = second < MIN_FROM ? 0 : Math.round(second / FRAME) * FRAME;
  const end = from && from - OVERLAP;
  const begin = Math.max(0, end - TAIL);
  const duration = durationOf(sections);
  return {
    id: newId(),
    at: Date.now(),
    group,
    license,
    from,
    duration,
    isUnfinished: from < duration,
    before: clip(sections, 0, begin),
    request: requestOf(request, clip(sections, begin, Infinity), from),
    given,
    files: from ? { ...(begin ? {} : given), audio: sound.file(begin, end) } : given,
    ...(from && { blob: sound.file(0, from), seconds: from }),
  };
}

function requestOf(request, sections, from) {
  const { prompt, duration, sections: _, loop, bars, bpm, chroma, pace, output, ...rest } = request;
  const isPlain = sections.length === 1 && typeof sections[0].prompt === "string";
  return {
    ...rest,
    ...(isPlain ? sections[0] : { sections }),
    ...(from && { output: "new" }),
    seed: newSeed(),
  };
}
