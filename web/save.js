/** Saving: songs as files in each format, made of the audio that is there. */

import { encode } from "./api.js";
import * as deck from "./deck.js";
import * as notice from "./notice.js";
import { errorText } from "./refusals.js";
import { titleOf } from "./sections.js";
import { create, ui } from "./ui.js";
import { downloadZip } from "./vendor/client-zip.js";

const FILE_URL_MS = 60_000; // how long a file's URL lives: browsers do not report a download's end
const MAX_NAME = 80; // characters

export async function saveZip(records) {
  const digits = String(records.length).length;
  const files = records.map((record, index) => ({
    name: `${String(index + 1).padStart(digits, "0")} ${nameOf(record)}.wav`,
    lastModified: new Date(record.at),
    input: record.blob,
  }));
  download(await downloadZip(files).blob(), "music.zip");
}

async function save(format) {
  const { record, sound } = deck.chosen;
  const name = nameOf(record);
  const loop = format === "loop" && deck.loopOf(deck.chosen);
  try {
    if (loop) download(sound.file(loop.from, loop.to), `${name}-loop.wav`);
    else if (format === "wav") download(record.blob, `${name}.wav`);
    else download(await encode(record.blob, format), `${name}.${format}`);
  } catch (error) {
    notice.show(errorText(error));
  }
}

function nameOf(record) {
  const given = record.name ?? record.filename?.replace(/\.\w+$/, "") ?? titleOf(record);
  return given.replace(/[\\/:*?"<>|\s]+/g, "-").slice(0, MAX_NAME);
}

function download(blob, name) {
  const link = create("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), FILE_URL_MS);
}

ui.formats.addEventListener("beforetoggle", () => {
  ui.saveLoop.hidden = !deck.loopOf(deck.chosen);
});
ui.formats.addEventListener("click", async ({ target }) => {
  if (!target.value) return;
  ui.formats.hidePopover();
  ui.save.ariaBusy = true;
  await save(target.value);
  ui.save.ariaBusy = false;
});
