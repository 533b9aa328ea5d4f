/** 16-bit WAV, read while it comes, and the beginning of one cut out. */

const HEADER_MAX = 1 << 20; // bytes

/**
 * Yields {format, bytes, pcm} for each piece that comes: all of its bytes, and the samples that are
 * whole with it, interleaved. `format` is {channels, rate, length: frames, start: bytes of header}.
 */
export async function* readWav(body) {
  const reader = body.getReader(); // Not every browser iterates over streams.
  let rest = new Uint8Array(0), format = null;
  for (;;) {
    const { done, value: bytes } = await reader.read();
    if (done) return;
    rest = joined(rest, bytes);
    if (!format) {
      format = formatOf(rest);
      if (!format && rest.length > HEADER_MAX) throw new TypeError("no WAV");
      rest = rest.subarray(format?.start ?? 0);
    }
    const whole = format ? rest.length - (rest.length % (2 * format.channels)) : 0;
    yield { format, bytes, pcm: new Int16Array(rest.slice(0, whole).buffer) };
    rest = rest.subarray(whole);
  }
}

/** Of what is written in the header, or null where not all of it is there. */
function formatOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const format = {};
  for (let at = 12; at + 8 <= bytes.length;) {
    const name = String.fromCharCode(...bytes.subarray(at, at + 4));
    const size = view.getUint32(at + 4, true);
    at += 8;
    if (name === "data") {
      return { ...format, length: size / 2 / format.channels, start: at };
    }
    if (name === "fmt " && at + 8 <= bytes.length) {
      format.channels = view.getUint16(at + 2, true);
      format.rate = view.getUint32(at + 4, true);
    }
    at += size + (size % 2);
  }
  return null;
}

/** The first `frames` of a whole or partial WAV, as a file. */
export function beginning(blob, { channels, rate, start }, frames) {
  const size = 2 * channels * frames;
  const header = new DataView(new ArrayBuffer(44));
  const words = { 0: "RIFF", 8: "WAVE", 12: "fmt ", 36: "data" };
  for (const [at, word] of Object.entries(words)) {
    [...word].forEach((letter, i) => header.setUint8(+at + i, letter.charCodeAt(0)));
  }
  const longs = { 4: 36 + size, 16: 16, 24: rate, 28: 2 * channels * rate, 40: size };
  const shorts = { 20: 1, 22: channels, 32: 2 * channels, 34: 16 };
  for (const [at, value] of Object.entries(longs)) header.setUint32(+at, value, true);
  for (const [at, value] of Object.entries(shorts)) header.setUint16(+at, value, true);
  return new Blob([header, blob.slice(start, start + size)], { type: "audio/wav" });
}

function joined(first, second) {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}
