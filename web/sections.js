/** The sections of a song: its parts, each with a prompt and a duration of its own. */

import { OVERLAP } from "./sound.js";

const TAIL = 12; // seconds of what is there that the model hears before a new part
const FRAME = 0.02; // seconds; the model makes whole frames

/** Those of a record; neighbours that differ in nothing but their duration are one. */
export function sectionsOf({ before = [], request }) {
  const joined = [];
  for (const section of [...before, ...requested(request)]) {
    const last = joined.at(-1);
    if (last && settingsOf(last) === settingsOf(section)) last.duration += section.duration;
    else joined.push({ ...section });
  }
  return joined;
}

/** A prompt, or a blend of several, for people. */
export function textOf(prompt) {
  if (typeof prompt === "string") return prompt;
  return prompt.map(({ text }) => text).join(" + ");
}

/** The title of a record. */
export function titleOf(record) {
  const texts = sectionsOf(record).map(({ prompt }) => textOf(prompt));
  return record.name ?? texts.join(" → ");
}

export function durationOf(sections) {
  return sections.reduce((sum, { duration }) => sum + duration, 0);
}

/** The part from one second to another. */
export function clip(sections, from, to) {
  let end = 0;
  const clipped = sections.map((section) => {
    const start = end;
    end += section.duration;
    const duration = Math.min(end, to) - Math.max(start, from);
    return { ...section, duration: Math.round(duration / FRAME) * FRAME };
  });
  return clipped.filter(({ duration }) => duration >= FRAME / 2).map(rounded);
}

/** The first second at which two lists differ. */
export function firstChange(old, fresh) {
  let start = 0;
  for (const [index, section] of fresh.entries()) {
    const before = old[index];
    if (!before || settingsOf(before) !== settingsOf(section)) return start;
    if (before.duration !== section.duration) {
      return start + Math.min(before.duration, section.duration);
    }
    start += section.duration;
  }
  return start;
}

/** The request and the audio, {begin, end} in seconds, for a song that is made anew from a second on. */
export function continuation({ request }, sections, from) {
  const { prompt, duration, sections: _, loop, bars, bpm, seed, chroma, ...settings } = request;
  const end = from && from - OVERLAP;
  const begin = Math.max(0, end - TAIL);
  const rest = clip(sections, begin, durationOf(sections));
  const isPlain = rest.length === 1 && typeof rest[0].prompt === "string";
  return {
    request: { ...settings, ...(isPlain ? rest[0] : { sections: rest }) },
    before: clip(sections, 0, begin),
    audio: { begin, end },
  };
}

function requested({ sections, prompt, duration, bars, bpm }) {
  return sections ?? [{ prompt, duration: duration ?? (bars * 240) / bpm }];
}

function settingsOf({ duration, ...settings }) {
  return JSON.stringify(settings);
}

function rounded(section) {
  return { ...section, duration: Number(section.duration.toFixed(2)) };
}
