/** A song's loudness over time, drawn as it comes. */

import { PEAK_RATE } from "./sound.js";

const BARS = 120, WIDTH = 600; // of the drawing, which is 2 units high

/**
 * @param svg holds a rectangle, for the part that is repeated, and paths for what is absent, there and played
 * @returns draw({peaks, duration, position, loop}), all in seconds but the peaks, 0 to 1
 */
export function createWaveform(svg) {
  const [chosen, ...paths] = svg.children;
  let drawn = "";

  return ({ peaks, duration, position, loop }) => {
    const { from, to } = loop ?? { from: 0, to: 0 }, played = Math.round((position / duration) * BARS);
    const state = [peaks.length, duration, played, from, to].join();
    if (state === drawn) return;
    drawn = state;
    chosen.setAttribute("x", (from / duration) * WIDTH);
    chosen.setAttribute("width", ((to - from) / duration) * WIDTH);
    const lines = ["", "", ""];
    for (let bar = 0; bar < BARS; bar++) {
      const [begin, end] = [bar, bar + 1].map((it) => Math.floor((it / BARS) * duration * PEAK_RATE));
      const heard = peaks.slice(begin, Math.max(end, begin + 1));
      const tall = Math.sqrt(Math.max(0, ...heard)) * 0.95;
      lines[!heard.length ? 0 : bar < played ? 2 : 1] += `M${(bar + 0.5) * (WIDTH / BARS)} ${1 - tall}v${2 * tall}`;
    }
    paths.forEach((path, i) => path.setAttribute("d", lines[i]));
  };
}
