/** The gateway's HTTP API. Every failure is an ApiError, but an abort stays an AbortError. */

import { fetchWithKey } from "./key.js";

const NUMBERS = ["duration", "seed", "temperature", "top_k", "top_p", "cfg_coef"];

export class ApiError extends Error {
  constructor(code, message = "", field = null) {
    super(message);
    Object.assign(this, { code, field });
  }
}

/** {default, max_duration: seconds, models: [{id, size, channels, license, state, reason, …}]} */
export function fetchModels(signal) {
  return call("/models", { signal }, (response) => response.json());
}

/** How far the song of that id is: {state, position, seconds, total_seconds, seconds_left, download} */
export function fetchProgress(id, signal) {
  return call(`/generations/${id}`, { signal }, (response) => response.json());
}

/**
 * The song, which `read` gets as a stream once its first music is there, with {model, seed, revision,
 * filename}. With `source` (a Blob of audio) it goes on from that.
 */
export function generate(request, { id, source, signal }, read) {
  const headers = id ? { "X-Request-Id": id } : {};
  let body;
  if (source) {
    body = new FormData();
    for (const [field, value] of Object.entries(request)) body.append(field, value);
    body.append("audio", source);
  } else {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(request);
  }
  return call("/generate", { method: "POST", headers, body, signal }, (response) => read(response, {
    model: response.headers.get("X-Model"),
    revision: response.headers.get("X-Revision"),
    seed: Number(response.headers.get("X-Seed")),
    filename: filenameOf(response),
  }));
}

/** The same request for a shell. */
export function curl(request, filename, continued) {
  const url = quoted(new URL("/generate", location.href).href);
  const fields = Object.entries(request);
  const body = continued
    ? [...fields, ["audio", "@beginning.wav"]].map(([field, value]) => `-F ${quoted(`${field}=${value}`)}`)
    : ["-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(request))}`];
  return [`curl --fail-with-body -o ${quoted(filename)} ${url}`, ...body].join(" \\\n  ");
}

/** Settings as a link holds them, and back. */
export function linkOf(request) {
  return `${location.origin}${location.pathname}#${new URLSearchParams(request)}`;
}

export function requestOf(link) {
  const fields = [...new URLSearchParams(link.replace(/^#/, ""))];
  return Object.fromEntries(fields.map(([field, value]) => [
    field, NUMBERS.includes(field) ? Number(value) : value,
  ]));
}

async function call(path, init, read) {
  try {
    const response = await fetchWithKey(path, init);
    if (response.ok) return await read(response);
    const { error = {} } = await response.json().catch(() => ({}));
    const { code = "internal", message = `HTTP ${response.status}`, field } = error;
    throw new ApiError(code, message, field);
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError("network");
  }
}

function filenameOf(response) {
  const disposition = response.headers.get("Content-Disposition") ?? "";
  return decodeURIComponent(disposition.match(/filename\*=UTF-8''([^;]+)/)?.[1] ?? "music.wav");
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
