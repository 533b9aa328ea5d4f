/** The gateway's HTTP API. Every failure is an ApiError, but an abort stays an AbortError. */

import { fetchWithKey } from "./key.js";

export class ApiError extends Error {
  constructor({ code, message, field = null }) {
    super(message);
    Object.assign(this, { code, field });
  }
}

const UNREACHABLE = { code: "network", message: "The service can’t be reached. Try again in a moment." };

/** {default, max_duration: seconds, models: [{id, size, channels, license, state, reason, …}]} */
export const fetchModels = () => call("/models", {}, (response) => response.json());

/** How far the song of that id is: {state, position, seconds, total_seconds, seconds_left, download} */
export const fetchProgress = (id, signal) =>
  call(`/generations/${id}`, { signal }, (response) => response.json());

/**
 * The song, which `read` gets as a stream once its first music is there, with {model, seed, revision,
 * filename}. With `source` (a Blob of audio) it goes on from that.
 */
export function generate(request, { id, source, signal }, read) {
  const headers = { ...id && { "X-Request-Id": id } };
  let body = JSON.stringify(request);
  if (source) {
    body = new FormData();
    for (const [field, value] of Object.entries({ ...request, audio: source })) body.append(field, value);
  } else {
    headers["Content-Type"] = "application/json";
  }
  return call("/generate", { method: "POST", headers, body, signal }, (response) => read(response, {
    model: response.headers.get("X-Model"),
    revision: response.headers.get("X-Revision"),
    seed: Number(response.headers.get("X-Seed")),
    filename: filenameOf(response.headers.get("Content-Disposition")),
  }));
}

/** The same request for a shell. */
export function curl(request, filename, continued) {
  const fields = Object.entries(request);
  const body = continued
    ? [...fields, ["audio", "@beginning.wav"]].map((field) => `-F ${quoted(field.join("="))}`)
    : ["-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(request))}`];
  const command = `curl --fail-with-body -o ${quoted(filename)} ${quoted(`${location.origin}/generate`)}`;
  return [command, ...body].join(" \\\n  ");
}

async function call(path, init, read) {
  try {
    const response = await fetchWithKey(path, init);
    if (response.ok) return await read(response);
    const { error } = await response.json(); // A proxy's own error is no JSON.
    throw new ApiError(error);
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError(UNREACHABLE);
  }
}

function filenameOf(disposition) {
  return decodeURIComponent(disposition?.match(/filename\*=UTF-8''([^;]+)/)?.[1] ?? "music.wav");
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
