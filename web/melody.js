/** The melody that the next songs follow: a file, chosen, dropped on the form or recorded. */

import { t } from "./i18n.js";
import { onClick, ui } from "./ui.js";

const MAX_RECORDING_MS = 119_000; // The server takes 120 s.
const NO_MICROPHONE = {
  field: "melody",
  message: "The browser gives no microphone to this page.",
};
// Filters for calls take held notes for noise.
const AS_IT_SOUNDS = { echoCancellation: false, noiseSuppression: false };

let recorder = null; // the MediaRecorder that records

/** The file, if there is one. A recording ends first. */
export async function readMelody() {
  await endRecording();
  return ui.tune.hidden ? undefined : ui.melody.files[0];
}

/** Replaces the file; undefined removes it. */
export function setMelody(file) {
  const files = new DataTransfer();
  if (file) files.items.add(file);
  ui.melody.files = files.files;
}

/** Shows the control if the model takes a melody. */
export function renderMelody(isTaken) {
  if (!isTaken) endRecording();
  ui.tune.hidden = !isTaken;
  ui.mixed.hidden = ui.melody.files.length === 0;
  ui.unfollow.hidden = ui.mixed.hidden;
  ui.record.hidden = !navigator.mediaDevices; // Browsers offer it over TLS and on this machine only.
  ui.record.textContent = t(recorder ? "End the recording" : "Record");
  ui.record.classList.toggle("recording", recorder !== null);
}

/** Rejects if the browser gives no microphone. `onEnd` is called when the file is there. */
async function startRecording(onEnd) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: AS_IT_SOUNDS });
  const parts = [];
  recorder = new MediaRecorder(stream);
  const timer = setTimeout(endRecording, MAX_RECORDING_MS);
  recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
  recorder.addEventListener("stop", () => {
    clearTimeout(timer);
    for (const track of stream.getTracks()) track.stop();
    setMelody(new File(parts, t("recording"), { type: recorder.mimeType }));
    recorder = null;
    onEnd();
  });
  recorder.start();
}

async function endRecording() {
  if (!recorder) return;
  const end = new Promise((resolve) => {
    recorder.addEventListener("stop", resolve);
  });
  if (recorder.state === "recording") recorder.stop();
  await end;
}

/** `onChange` receives an error or null. */
export function watchMelody(onChange) {
  const onEnd = () => onChange(null);
  onClick(ui, {
    record: async () => {
      if (ui.record.ariaDisabled === "true") return;
      ui.record.ariaDisabled = true; // while the browser asks the user
      try {
        await (recorder ? endRecording() : startRecording(onEnd));
        onChange(null);
      } catch {
        onChange(NO_MICROPHONE);
      }
      ui.record.ariaDisabled = false;
    },
    unfollow: () => {
      setMelody();
      onChange(null);
      ui.melody.focus();
    },
  });
  ui.form.addEventListener("dragover", (event) => {
    const isFile = event.dataTransfer.items[0]?.kind === "file";
    if (isFile && !ui.tune.hidden) event.preventDefault(); // The form takes the file.
  });
  ui.form.addEventListener("drop", (event) => {
    const [file] = event.dataTransfer.files;
    if (!file || ui.tune.hidden) return;
    event.preventDefault();
    setMelody(file);
    onChange(null);
  });
}
