/** The waveform of a song, drawn as its samples arrive. */

import { PEAK_RATE } from "./sound.js";

const BARS = 120;
const WIDTH = 600; // of the SVG's view box; its height is 2
const MAX_BAR_HEIGHT = 0.95; // above and below the middle line

/**
 * @param svg has a rectangle for the loop and three paths for bars: unfilled, filled, played
 * @returns draw({peaks: 0 to 1, duration, position, loop}); the last three in seconds
 */
export function createWaveform(svg) {
  const [loopRectangle, ...paths] = svg.children;
  let lastState = "";

  function draw({ peaks, duration, position, loop }) {
    const { from, to } = loop ?? { from: 0, to: 0 };
    const playedBars = Math.round((position / duration) * BARS);
    const state = [peaks.length, duration, playedBars, from, to].join();
    if (state === lastState) return;
    lastState = state;
    loopRectangle.setAttribute("x", (from / duration) * WIDTH);
    loopRectangle.setAttribute("width", ((to - from) / duration) * WIDTH);
    const lines = ["", "", ""]; // one per path
    for (let bar = 0; bar < BARS; bar++) {
      const barPeaks = peaksOfBar(bar, peaks, duration);
      lines[pathOfBar(bar, barPeaks, playedBars)] += barLine(bar, barPeaks);
    }
    for (const [index, path] of paths.entries()) path.setAttribute("d", lines[index]);
  }

  return draw;
}

function peaksOfBar(bar, peaks, duration) {
  const begin = Math.floor((bar / BARS) * duration * PEAK_RATE);
  const end = Math.floor(((bar + 1) / BARS) * duration * PEAK_RATE);
  return peaks.slice(begin, Math.max(end, begin + 1));
}

function pathOfBar(bar, barPeaks, playedBars) {
  if (barPeaks.length === 0) return 0;
  return bar < playedBars ? 2 : 1;
}

/** A vertical line as SVG path data. */
function barLine(bar, barPeaks) {
  const x = (bar + 0.5) * (WIDTH / BARS);
  const height = Math.sqrt(Math.max(0, ...barPeaks)) * MAX_BAR_HEIGHT;
  return `M${x} ${1 - height}v${2 * height}`;
}
