/** The loop: the user drags it across the waveform, and its handles snap to beats. */

import { nearestBeat } from "./beats.js";
import { secondsPerPixel } from "./blocks.js";
import * as deck from "./deck.js";
import { describe, makeHandle } from "./handle.js";
import { clock, t } from "./i18n.js";
import * as player from "./player.js";
import { clamp, ui } from "./ui.js";

const MIN_DRAG = 6; // pixels; less is a click
const MIN_LOOP = 0.1; // seconds

let pending = null; // the loop, {from, to}, while the user drags it
let start = null; // {x, second} of a drag across the waveform

export function draw(span) {
  const shown = pending ?? deck.loopOf(deck.chosen);
  ui.loop.hidden = !shown;
  if (!shown) return;
  const { from, to } = shown;
  ui.loop.style.left = `${(100 * from) / span}%`;
  ui.loop.style.width = `${(100 * (to - from)) / span}%`;
  describe(ui.loopFrom, t("Loop from", "Début de la boucle"), from, span, clock(from));
  describe(ui.loopTo, t("Loop to", "Fin de la boucle"), to, span, clock(to));
}

function within(from, to) {
  const { seconds } = deck.chosen;
  const end = clamp(to, MIN_LOOP, seconds);
  return { from: Math.max(0, Math.min(from, end - MIN_LOOP)), to: end };
}

/** Ends a drag or a step. The ends move to the beats next to them, unless the step is fine. */
function settle(isFine) {
  if (!pending) return;
  const { sound } = deck.chosen;
  const snapped = within(nearestBeat(sound, pending.from), nearestBeat(sound, pending.to));
  const isShort = snapped.to - snapped.from <= MIN_LOOP;
  deck.setLoop(isFine || isShort ? pending : snapped);
  pending = null;
}

for (const [handle, side] of [
  [ui.loopFrom, "from"],
  [ui.loopTo, "to"],
]) {
  makeHandle(handle, {
    secondsPerPixel,
    read: () => player.loop[side],
    write: (second) => {
      const { from, to } = pending ?? player.loop;
      pending = side === "from" ? within(second, to) : within(from, second);
    },
    end: settle,
  });
}
ui.surface.addEventListener("pointerdown", ({ pointerId, clientX, offsetX }) => {
  if (!deck.chosen?.sound) return;
  ui.surface.setPointerCapture(pointerId);
  start = { x: clientX, second: offsetX * secondsPerPixel() };
});
ui.surface.addEventListener("pointermove", ({ clientX }) => {
  if (!start || (!pending && Math.abs(clientX - start.x) < MIN_DRAG)) return;
  const second = start.second + (clientX - start.x) * secondsPerPixel();
  pending = within(Math.min(start.second, second), Math.max(start.second, second));
});
ui.surface.addEventListener("pointerup", () => {
  if (start && !pending) deck.seek(start.second);
  start = null;
  settle();
});
// The browser sends pointercancel when the touch scrolls the page.
ui.surface.addEventListener("pointercancel", () => {
  start = null;
  pending = null;
});
