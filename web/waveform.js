/** The waveform of a song: the lowest and the highest sample of each pixel. */

const MIN_PEAK = 0.2; // A softer song is not drawn any larger.

/**
 * @returns draw({sound, from, to, top, height, played}): the seconds from `from` to `to` across
 * the canvas, at a height; those before `played` stronger
 */
export function createWaveform(context) {
  let columns = []; // [low, high] of each pixel
  let state = "";
  let song = null;

  function measure(sound, from, to, width) {
    const newState = [from, to, width].join();
    if (sound !== song || newState !== state) columns = [];
    [song, state] = [sound, newState];
    const step = ((to - from) * sound.rate) / width; // frames of a pixel
    const start = from * sound.rate;
    for (let x = columns.length; x < width; x++) {
      const begin = Math.floor(start + x * step);
      const end = Math.max(begin + 1, Math.floor(start + (x + 1) * step));
      if (end > sound.frames) break;
      columns.push(sound.extremes(begin, end));
    }
  }

  return ({ sound, from, to, top, height, played }) => {
    const { width } = context.canvas;
    const pixel = devicePixelRatio;
    const middle = top + height / 2;
    if (sound) measure(sound, from, to, width);
    else columns = [];
    const edge = ((played - from) / (to - from)) * width;
    const paths = [new Path2D(), new Path2D()]; // played, and not
    const scale = (0.45 * height) / Math.max(sound?.peak ?? 0, MIN_PEAK);
    for (const [x, [low, high]] of columns.entries()) {
      const length = Math.max(pixel, (high - low) * scale);
      paths[Number(x >= edge)].rect(x, middle - high * scale, 1, length);
    }
    context.globalAlpha = 1;
    context.fill(paths[0]);
    context.globalAlpha = 0.5;
    context.fill(paths[1]);
    context.fillRect(columns.length, middle, width - columns.length, pixel); // still to come
  };
}
