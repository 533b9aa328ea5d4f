/** Audio for the next songs: dropped, pasted, chosen, recorded or of the deck, and cut to a part. */

import * as deck from "./deck.js";
import { clock, t, timeOf } from "./i18n.js";
import { titleOf } from "./sections.js";
import { Sound } from "./sound.js";
import { clamp, onClick, setText, ui } from "./ui.js";
import { createWaveform } from "./waveform.js";

const RATE = 32000; // Hz, the models'
const MAX_BYTES = 32e6;
const LONGEST = { audio: 30, melody: 120 }; // seconds that the server takes
const SHORTEST = 0.1; // seconds
const CONTINUATION = 10; // seconds that a song is longer than its start, at first
const SILENCE = 1e-4; // full scale is 1
const [RIFF, WAVE, FMT, DATA] = [0x46464952, 0x45564157, 0x20746d66, 0x61746164]; // a WAV's letters
const UNREADABLE = problem(
  "The browser finds no audio in this file. Choose a WAV, MP3 or FLAC.",
  "Le navigateur ne trouve pas de son dans ce fichier. Choisissez un WAV, MP3 ou FLAC.",
);
// Filters for calls take held notes for noise.
const AS_IT_SOUNDS = { echoCancellation: false, noiseSuppression: false };

const context = ui.shape.getContext("2d");
const drawWaveform = createWaveform(context);
let sound = null; // all of the audio
let name = "";
let part = { begin: 0, end: 0 }; // seconds
let recorder = null; // the MediaRecorder that records
let reading = Promise.resolve(); // of all audio so far, in the order in which it was given
let onChange = () => {};

/** Calls back with an error or null when the audio is another one. */
export function watch(callback) {
  onChange = callback;
}

/** {role, file}, if there is audio: the role is the request's field. A recording ends first. */
export async function readReference() {
  await endRecording();
  await reading;
  return sound ? { role: ui.role.value, file: sound.file(part.begin, part.end) } : null;
}

/** Uses a file, or no more (null). */
function use(file, title = file?.name) {
  reading = reading.then(() => read(file, title));
  return reading;
}

async function read(file, title) {
  try {
    sound = file && (await decode(file));
  } catch (error) {
    return onChange(error.field ? error : UNREADABLE);
  }
  name = title;
  part = { begin: 0, end: sound?.seconds ?? 0 };
  ui.role.value = ui.role.options.melody.disabled ? "audio" : "melody";
  limit("begin");
  onChange(null);
}

/** Shows what the model can do with the audio; `other` is a model that follows a melody. */
export function renderReference(model, other) {
  const { melody } = ui.role.options;
  melody.disabled = !model?.melody;
  if (melody.selected && melody.disabled) {
    ui.role.value = "audio";
    limit("begin");
  }
  const why = t(
    `${model?.id} follows no melody; ${other} does.`,
    `${model?.id} ne suit pas de mélodie ; ${other}, si.`,
  );
  setText(ui.why, melody.disabled && other ? why : "");
  ui.reference.hidden = !sound;
  ui.mixed.hidden = !melody.selected;
  ui.record.hidden = !navigator.mediaDevices; // Browsers offer it over TLS and on this machine only.
  ui.record.textContent = recorder
    ? t("End the recording", "Arrêter l’enregistrement")
    : t("Record", "Enregistrer");
  ui.record.ariaPressed = recorder !== null;
  if (sound) draw();
}

function draw() {
  const { begin, end } = part;
  for (const edge of ["begin", "end"]) {
    const value = part[edge];
    Object.assign(ui[edge], { max: sound.seconds, value, ariaValueText: `${value.toFixed(1)} s` });
    ui.trim.style.setProperty(`--${edge}`, value / sound.seconds);
  }
  setText(ui.cut, `${name}: ${timeOf(`${clock(begin)}–${clock(end)}`, sound.seconds)}`);
  const [width, height] = [ui.shape.clientWidth, ui.shape.clientHeight];
  Object.assign(ui.shape, { width: width * devicePixelRatio, height: height * devicePixelRatio });
  context.fillStyle = getComputedStyle(ui.shape).color;
  const [to, played] = [sound.seconds, Infinity];
  drawWaveform({ sound, from: 0, to, top: 0, height: ui.shape.height, played });
}

/** Keeps the part as long as the server takes it: the other edge follows this one. */
function limit(edge) {
  const longest = LONGEST[ui.role.value];
  const all = sound?.seconds ?? 0;
  const shortest = Math.min(SHORTEST, all);
  if (edge === "begin") {
    part.begin = Math.min(part.begin, all - shortest);
    part.end = Math.min(clamp(part.end, part.begin + shortest, part.begin + longest), all);
  } else {
    part.end = Math.max(part.end, shortest);
    part.begin = Math.max(0, clamp(part.begin, part.end - longest, part.end - shortest));
  }
  const isStart = sound && ui.role.value === "audio";
  if (!isStart || ui.duration.valueAsNumber > part.end - part.begin) return;
  const duration = Math.ceil(part.end - part.begin) + CONTINUATION;
  ui.duration.value = Math.min(duration, ui.duration.max);
  ui.duration.dispatchEvent(new Event("input", { bubbles: true }));
}

async function decode(file) {
  if (file.size > MAX_BYTES) {
    throw problem(
      "This file is over 32 MB. Cut it.",
      "Ce fichier dépasse 32 Mo. Raccourcissez-le.",
    );
  }
  const reader = new OfflineAudioContext(1, 1, RATE);
  const decoded = new Sound();
  decoded.append(wavOf(await reader.decodeAudioData(await file.arrayBuffer())));
  if (decoded.peak < SILENCE) {
    throw problem(
      "This audio is silent. Choose another one.",
      "Ce son est silencieux. Choisissez-en un autre.",
    );
  }
  return decoded;
}

function wavOf(buffer) {
  const channels = Math.min(buffer.numberOfChannels, 2);
  const frame = 2 * channels; // bytes
  const size = buffer.length * frame;
  const format = [FMT, 16, (channels << 16) | 1, RATE, RATE * frame, (16 << 16) | frame];
  const header = new Uint32Array([RIFF, 36 + size, WAVE, ...format, DATA, size]);
  const file = new Uint8Array(header.byteLength + size);
  file.set(new Uint8Array(header.buffer));
  const samples = new Int16Array(file.buffer, header.byteLength);
  for (let channel = 0; channel < channels; channel++) {
    for (const [index, sample] of buffer.getChannelData(channel).entries()) {
      samples[index * channels + channel] = clamp(sample, -1, 1) * 32767;
    }
  }
  return file;
}

/** Rejects if the browser gives no microphone. */
async function startRecording() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: AS_IT_SOUNDS });
  const { promise, resolve } = Promise.withResolvers();
  recorder = Object.assign(new MediaRecorder(stream), { used: promise });
  const timer = setTimeout(endRecording, 1000 * LONGEST.melody);
  recorder.addEventListener("dataavailable", ({ data }) => {
    clearTimeout(timer);
    for (const track of stream.getTracks()) track.stop();
    recorder = null;
    resolve(use(data, t("recording", "enregistrement")));
  });
  recorder.start();
  onChange(null);
}

async function endRecording() {
  if (recorder?.state === "recording") recorder.stop();
  await recorder?.used;
}

function problem(message, french) {
  return { field: "audio", message, french };
}

function takeFile(event, { files: [file] = [] }) {
  const isPicture = event.type === "paste" && file?.type.startsWith("image/"); // Office adds one to text.
  if (!file || isPicture) return;
  event.preventDefault();
  use(file);
}

ui.audio = ui.choose; // The server's names of the field.
ui.melody = ui.choose;
onClick({
  choose: () => ui.file.click(),
  record: async () => {
    if (ui.record.ariaDisabled === "true") return;
    ui.record.ariaDisabled = true; // while the browser asks the user
    try {
      await (recorder ? endRecording() : startRecording());
    } catch {
      onChange(problem("The browser gives no microphone.", "Le navigateur refuse le micro."));
    }
    ui.record.ariaDisabled = false;
  },
  unuse: () => {
    use(null);
    ui.choose.focus();
  },
  usePart: async () => {
    const chosen = await deck.chosen?.load();
    const loop = deck.loopOf(deck.chosen);
    if (chosen) use(chosen.file(loop?.from, loop?.to), titleOf(deck.chosen.record));
  },
});
ui.file.addEventListener("change", () => {
  use(ui.file.files[0]);
  ui.file.value = ""; // The same file can be chosen again.
});
ui.role.addEventListener("input", () => {
  part.end = sound.seconds;
  limit("begin");
});
for (const edge of ["begin", "end"]) {
  ui[edge].addEventListener("input", () => {
    part[edge] = ui[edge].valueAsNumber;
    limit(edge);
  });
}
document.addEventListener("paste", (event) => takeFile(event, event.clipboardData));
document.addEventListener("drop", (event) => takeFile(event, event.dataTransfer));
document.addEventListener("dragover", (event) => {
  if (event.dataTransfer.items[0]?.kind === "file") event.preventDefault(); // The page takes it.
});
