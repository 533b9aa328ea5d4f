/** The gateway's HTTP API. A refusal and a lost connection both become an error with a code. */

import { fetchWithKey } from "./key.js";

const UNREACHABLE = {
  code: "network",
  message: "The service can’t be reached. Try again in a moment.",
  french: "Le service est injoignable. Réessayez dans un instant.",
};
const WEIGHTS_CHANGED = {
  message: "The model’s weights have changed. Ask for a new song.",
  french: "Les poids du modèle ont changé. Demandez un nouveau morceau.",
};

/** {default, max_duration: seconds, models: [{id, size, channels, license, state, reason, …}]} */
export function fetchModels() {
  return call("/models");
}

/** One song's {state, position, seconds, total_seconds, seconds_left, download}. */
export function fetchProgress(id, signal) {
  return call(`/generations/${id}`, { signal });
}

/** Changes a song that is being made. Resolves to {changed_at: its second, receipt: its request}. */
export function changeSong(id, values) {
  const { headers, body } = jsonContent(values);
  headers.traceparent = traceparent(id);
  return call(`/generations/${id}?wait=5`, { method: "PATCH", headers, body });
}

/**
 * Generates a song. `read` receives the response as soon as its first samples arrive, with the
 * facts {model, seed, revision, filename}. `files` are Blobs by the names of their fields. `id` is
 * 32 hexadecimal digits, as `traceparent` needs.
 *
 * With `revision` the call fails if the model has other weights by now.
 */
export function generate(request, { id, files, revision, signal }, read) {
  const { headers, body } = files ? formContent({ ...request, ...files }) : jsonContent(request);
  headers["X-Request-Id"] = id;
  headers.traceparent = traceparent(id);
  return call("/generate", { method: "POST", headers, body, signal }, (response) => {
    const facts = readFacts(response.headers);
    if (revision && facts.revision !== revision) throw createError(WEIGHTS_CHANGED);
    return read(response, facts);
  });
}

export function encode(wav, format) {
  const init = { method: "POST", headers: { "Content-Type": "audio/wav" }, body: wav };
  return call(`/encode?format=${format}`, init, (response) => response.blob());
}

/** The header (W3C Trace Context) that makes a song and its changes one trace, of the song's id. */
function traceparent(id) {
  return `00-${id}-${id.slice(16)}-01`;
}

function jsonContent(request) {
  return { headers: { "Content-Type": "application/json" }, body: JSON.stringify(request) };
}

function formContent(fields) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    const isJson = typeof value === "object" && !(value instanceof Blob);
    body.append(name, isJson ? JSON.stringify(value) : value);
  }
  return { headers: {}, body };
}

function readFacts(headers) {
  const disposition = headers.get("Content-Disposition") ?? "";
  const [, filename = "music.wav"] = disposition.match(/filename\*=UTF-8''([^;]+)/) ?? [];
  return {
    model: headers.get("X-Model"),
    revision: headers.get("X-Revision"),
    seed: Number(headers.get("X-Seed")),
    filename: decodeURIComponent(filename),
  };
}

async function call(path, init = {}, read = (response) => response.json()) {
  try {
    const response = await fetchWithKey(path, init);
    if (response.ok) return await read(response);
    const { error } = await response.json();
    throw createError(error?.message ? error : UNREACHABLE);
  } catch (error) {
    // fetch and stream readers throw TypeError; a proxy's error page is no JSON.
    const isLost = error instanceof TypeError || error instanceof SyntaxError;
    throw isLost ? createError(UNREACHABLE) : error;
  }
}

function createError({ message, ...facts }) {
  return Object.assign(new Error(message), facts);
}
