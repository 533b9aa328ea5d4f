/** The gateway's HTTP API. What it refuses and what is lost on the way is an error with a code. */

import { fetchWithKey } from "./key.js";

const UNREACHABLE = { code: "network", message: "The service can’t be reached. Try again in a moment." };
const CHANGED = { code: "weights_changed", message: "The model’s weights have changed. Ask for a new song." };

/** {default, max_duration: seconds, models: [{id, size, channels, license, state, reason, …}]} */
export const fetchModels = () => call("/models", {}, (response) => response.json());

/** How far the song of that id is: {state, position, seconds, total_seconds, seconds_left, download} */
export const fetchProgress = (id, signal) =>
  call(`/generations/${id}`, { signal }, (response) => response.json());

/**
 * The song, which `read` gets as a stream once its first music is there, with {model, seed, revision,
 * filename}. With `source` (a Blob of audio) it goes on from that; with `revision` it is of those
 * weights or none.
 */
export function generate(request, { id, source, revision, signal }, read) {
  const headers = { ...id && { "X-Request-Id": id }, ...!source && { "Content-Type": "application/json" } };
  const body = source ? new FormData() : JSON.stringify(request);
  if (source) Object.entries({ ...request, audio: source }).forEach((entry) => body.append(...entry));
  return call("/generate", { method: "POST", headers, body, signal }, (response) => {
    const told = (name) => response.headers.get(name);
    if (revision && told("X-Revision") !== revision) throw failure(CHANGED);
    const [, name = "music.wav"] = told("Content-Disposition")?.match(/filename\*=UTF-8''([^;]+)/) ?? [];
    const facts = { model: told("X-Model"), revision: told("X-Revision"), seed: Number(told("X-Seed")) };
    return read(response, { ...facts, filename: decodeURIComponent(name) });
  });
}

/** The same request for a shell. */
export function curl(request, filename) {
  const command = `curl --fail-with-body -o ${quoted(filename)} ${quoted(`${location.origin}/generate`)}`;
  const body = ["-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(request))}`];
  return [command, ...body].join(" \\\n  ");
}

async function call(path, init, read) {
  try {
    const response = await fetchWithKey(path, init);
    if (response.ok) return await read(response);
    const { error } = await response.json(); // A proxy's own error is no JSON.
    throw failure(error?.message ? error : UNREACHABLE);
  } catch (error) {
    const isLost = error instanceof TypeError || error instanceof SyntaxError;
    throw isLost ? failure(UNREACHABLE) : error;
  }
}

const failure = ({ code, message, field }) => Object.assign(new Error(message), { code, field });
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
