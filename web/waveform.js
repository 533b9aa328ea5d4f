/** A song's loudness over time, drawn as it comes; a click seeks, a drag chooses a part. */

const BAR = 3, GAP = 2; // pixels
const DRAG = 6; // pixels from which it is no click
const STEPS = { ArrowLeft: -1, ArrowRight: 1, PageDown: -5, PageUp: 5, Home: -Infinity, End: Infinity };

export class Waveform {
  #canvas;
  #drawn = "";

  /** @param on {seek(seconds), step(seconds), select({from, to}), toggle(), mark("from" | "to"), clear()} */
  constructor(canvas, on) {
    this.#canvas = canvas;
    let down = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button || !canvas.width) return;
      canvas.setPointerCapture(event.pointerId);
      down = event.offsetX;
    });
    canvas.addEventListener("pointermove", ({ offsetX }) => {
      if (down !== null && Math.abs(offsetX - down) > DRAG) on.select(this.#part(down, offsetX));
    });
    canvas.addEventListener("pointerup", ({ offsetX }) => {
      if (down !== null && Math.abs(offsetX - down) <= DRAG) on.seek(this.#timeAt(offsetX));
      down = null;
    });
    canvas.addEventListener("pointercancel", () => { down = null; });
    canvas.addEventListener("keydown", (event) => {
      const { key, ctrlKey, metaKey, altKey } = event;
      if (ctrlKey || metaKey || altKey) return;
      if (key in STEPS) on.step(STEPS[key]);
      else if (key === " " || key === "Enter") on.toggle();
      else if (key === "[" || key === "]") on.mark(key === "[" ? "from" : "to");
      else if (key === "Escape") on.clear();
      else return;
      event.preventDefault();
    });
  }

  /** @param song {peaks: 50 a second, duration, position: seconds, loop} */
  draw({ peaks, duration, position, loop }) {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const scale = devicePixelRatio, style = getComputedStyle(this.#canvas);
    const at = (seconds) => (seconds / duration) * width;
    const state = [width, height, scale, peaks.length, duration, at(position).toFixed(1),
      loop?.from, loop?.to, style.color].join();
    if (state === this.#drawn || !width) return;
    this.#drawn = state;
    this.duration = duration;
    Object.assign(this.#canvas, { width: width * scale, height: height * scale });
    const pen = this.#canvas.getContext("2d");
    pen.scale(scale, scale);
    const [played, there, absent, chosen] = ["--accent", "--ink", "--line", "--chosen"]
      .map((name) => style.getPropertyValue(name));
    if (loop) {
      pen.fillStyle = chosen;
      pen.fillRect(at(loop.from), 0, at(loop.to) - at(loop.from), height);
    }
    const perPixel = (duration * 50) / width;
    for (let x = 0; x + BAR <= width; x += BAR + GAP) {
      const [from, to] = [x, x + BAR + GAP].map((pixel) => Math.floor(pixel * perPixel));
      const heard = peaks.slice(from, Math.max(to, from + 1));
      const peak = heard.length ? Math.max(...heard) : 0;
      pen.fillStyle = !heard.length ? absent : x + BAR / 2 < at(position) ? played : there;
      const tall = Math.max(BAR, Math.sqrt(peak) * height);
      pen.beginPath();
      pen.roundRect(x, (height - tall) / 2, BAR, tall, BAR / 2);
      pen.fill();
    }
  }

  #timeAt(x) {
    const share = Math.min(1, Math.max(0, x / this.#canvas.clientWidth));
    return share * (this.duration ?? 0);
  }

  #part(one, other) {
    const [from, to] = [one, other].map((x) => this.#timeAt(x)).sort((a, b) => a - b);
    return { from, to };
  }
}
