/** A handle on the timeline: it is dragged, or moved by arrows. */

import { update } from "./ui.js";

const [COARSE, FINE] = [1, 0.1]; // seconds of an arrow key, and with Shift

/**
 * @param secondsPerPixel called when a drag begins
 * @param read the handle's second; `write` moves it; `end` follows a drag or a key,
 * with whether that is a fine step
 */
export function makeHandle(element, { secondsPerPixel, read, write, end = () => {} }) {
  let drag = null; // {x, second, scale} at its begin

  element.tabIndex = 0;
  element.role = "slider";
  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    drag = { x: event.clientX, second: read(), scale: secondsPerPixel() };
    event.stopPropagation();
  });
  element.addEventListener("pointermove", ({ clientX }) => {
    if (drag) write(drag.second + (clientX - drag.x) * drag.scale);
  });
  element.addEventListener("lostpointercapture", () => {
    drag = null;
    end();
  });
  element.addEventListener("keydown", (event) => {
    const sign = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!sign) return;
    event.preventDefault();
    write(read() + sign * (event.shiftKey ? FINE : COARSE));
    end(event.shiftKey);
  });
}

export function describe(element, label, second, max, text) {
  update(element, {
    ariaLabel: label,
    ariaValueMin: 0,
    ariaValueMax: max,
    ariaValueNow: second,
    ariaValueText: text,
  });
}
