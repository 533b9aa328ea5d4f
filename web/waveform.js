/** A song's loudness over time, drawn as it comes; a click seeks, a drag chooses a part. */

import { clock } from "./i18n.js";
import { PEAK_RATE } from "./sound.js";

const BARS = 120, WIDTH = 600; // of the drawing, which is 2 units high
const DRAG = 6; // pixels from which it is no click
const STEPS = {
  ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageDown: -5, PageUp: 5, Home: -Infinity, End: Infinity,
};

/**
 * @param svg holds a rectangle, for the chosen part, and paths for what is absent, there and played
 * @param on {seek(seconds), step(seconds), select({from, to}), toggle(), mark("from" | "to"), clear()}
 * @returns draw({peaks, duration, position, loop}), all in seconds but the peaks, 0 to 1
 */
export function createWaveform(svg, on) {
  const [chosen, ...paths] = svg.children;
  let shown = { duration: 0 }, drawn = "";
  let down = null, dragged = null; // where the pointer is held, and the part that it has gone over
  const placeOf = ({ clientX }) => clientX - svg.getBoundingClientRect().left;
  const timeAt = (x) => Math.min(1, Math.max(0, x / svg.clientWidth)) * shown.duration;

  svg.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    svg.setPointerCapture(event.pointerId);
    down = placeOf(event);
  });
  svg.addEventListener("pointermove", (event) => {
    const x = placeOf(event);
    if (down === null || Math.abs(x - down) <= DRAG) return;
    dragged = { from: timeAt(Math.min(down, x)), to: timeAt(Math.max(down, x)) };
    draw(shown);
  });
  svg.addEventListener("pointerup", (event) => {
    if (dragged) on.select(dragged);
    else if (down !== null) on.seek(timeAt(placeOf(event)));
    down = dragged = null;
  });
  svg.addEventListener("pointercancel", () => { down = dragged = null; });
  svg.addEventListener("keydown", (event) => {
    const { key, ctrlKey, metaKey, altKey } = event;
    if (ctrlKey || metaKey || altKey) return;
    if (key in STEPS) on.step(STEPS[key]);
    else if (key === " " || key === "Enter") on.toggle();
    else if (key === "[" || key === "]") on.mark(key === "[" ? "from" : "to");
    else if (key === "Escape") on.clear();
    else return;
    event.preventDefault();
  });
  return draw;

  function draw(song) {
    shown = song;
    const { peaks, duration, position, loop } = song;
    const [ariaValueMax, ariaValueNow] = [duration, position].map((seconds) => seconds.toFixed(1));
    Object.assign(svg, { ariaValueMax, ariaValueNow, ariaValueText: clock(position) });
    const { from, to } = dragged ?? loop ?? { from: 0, to: 0 }, played = Math.round((position / duration) * BARS);
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
  }
}
