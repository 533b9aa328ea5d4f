/** The gateway's HTTP API. Every failure is an ApiError, but an abort stays an AbortError. */

import { fetchWithKey } from "./key.js";

export class ApiError extends Error {
  constructor(code, message = "", field = null) {
    super(message);
    Object.assign(this, { code, field });
  }
}

/** {default, max_duration: seconds, models: [{id, license, weights, state, progress, reason}]} */
export function fetchModels(signal) {
  return call("/models", { signal }, (response) => response.json());
}

/** Turns {model, prompt, duration: seconds} into a song: {blob: WAV, filename}. */
export function generate(request, signal) {
  const headers = { "Content-Type": "application/json" };
  const init = { method: "POST", headers, body: JSON.stringify(request), signal };
  return call("/generate", init, async (response) => ({
    blob: await response.blob(),
    filename: filenameOf(response),
  }));
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
