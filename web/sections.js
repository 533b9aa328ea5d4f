/** The sections of a song: its parts, each with a prompt and a duration of its own. */

export const FRAME = 0.02; // seconds; the model makes whole frames

export function sectionsOf({ before = [], request }) {
  return join([...before, ...requested(request)]);
}

/** Makes neighbours that differ in nothing but their duration one. */
export function join(sections) {
  const joined = [];
  for (const section of sections) {
    const last = joined.at(-1);
    if (last && settingsOf(last) === settingsOf(section)) last.duration += section.duration;
    else joined.push({ ...section });
  }
  return joined.map((section) => ({ ...section, duration: Number(section.duration.toFixed(2)) }));
}

/** A prompt, or a blend of several, for people. */
export function textOf(prompt) {
  if (typeof prompt === "string") return prompt;
  return prompt.map(({ text }) => text).join(" + ");
}

export function titleOf(record) {
  const texts = sectionsOf(record).map(({ prompt }) => textOf(prompt));
  return record.name ?? texts.join(" → ");
}

export function durationOf(sections) {
  return sections.reduce((sum, { duration }) => sum + duration, 0);
}

/** The seconds of bars of 4 beats. */
export function durationOfBars(bars, bpm) {
  return (bars * 240) / bpm;
}

export function clip(sections, from, to) {
  let end = 0;
  const clipped = sections.map((section) => {
    const start = end;
    end += section.duration;
    const duration = Math.min(end, to) - Math.max(start, from);
    return { ...section, duration: Math.round(duration / FRAME) * FRAME };
  });
  return join(clipped.filter(({ duration }) => duration >= FRAME));
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

function requested({ sections, prompt, duration, bars, bpm }) {
  return sections ?? [{ prompt, duration: duration ?? durationOfBars(bars, bpm) }];
}

function settingsOf({ duration, ...settings }) {
  return JSON.stringify(settings);
}
