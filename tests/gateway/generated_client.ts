// Generates a song and continues it, with the types that openapi-typescript makes.
import { readFileSync, writeFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

const [server, beginning, whole] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: server });

async function generate(
  body: components["schemas"]["Song"] | components["schemas"]["SongForm"],
  file: string,
) {
  const form = "audio" in body ? { bodySerializer: toForm } : {};
  const { data, error, response } = await client.POST("/generate", { body, parseAs: "blob", ...form });
  if (error) throw new Error(error.error.message);
  writeFileSync(file, Buffer.from(await data.arrayBuffer()));
  return response.headers.get("X-Seed");
}

function toForm(body: object): FormData {
  const form = new FormData();
  for (const [name, value] of Object.entries(body)) {
    form.append(name, name === "audio" ? new Blob([readFileSync(value)]) : String(value));
  }
  return form;
}

await generate({ prompt: "slow piano", duration: 1, format: "flac" }, beginning);
const seed = await generate(
  { prompt: "slow piano", duration: 2, temperature: 1, seed: 7, audio: beginning, output: "whole" },
  whole,
);
const { data: models } = await client.GET("/models");
console.log(JSON.stringify({ seed, model: models?.models[0]?.id }));
