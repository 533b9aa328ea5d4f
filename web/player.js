/** Plays one song at a time, also one that is still being made. */

import { createVoice, FADE } from "./voice.js";

const MARGIN = 3 * FADE; // seconds before the end of what is there, in which more would come too late
const RATE = 32000; // Hz, MusicGen's: no sample is changed on its way

export let state = "paused"; // or "playing", or "buffering": the music comes slower than it plays
export let sound = null;
export let loop = null; // {from, to} in seconds
let output = null, voice = null;
let rest = 0; // the position while nothing sounds

/** In seconds. */
export const position = () => voice?.position() ?? rest;

/** Has to be called while the user presses something: browsers play nothing unasked. */
export function unlock() {
  if (!output) {
    const context = new AudioContext({ sampleRate: RATE });
    output = new GainNode(context);
    output.connect(context.destination);
  }
  if (navigator.audioSession) navigator.audioSession.type = "playback"; // iPhones are mute otherwise
  output.context.resume();
}

/** 0 to 1. */
export function setVolume(volume) {
  unlock();
  output.gain.setTargetAtTime(volume ** 2, output.context.currentTime, 0.02); // as loud as it looks
}

/** Plays `another` from there, and no more than a part of it if all of that is there. */
export function play(another, from, part = null) {
  if (another !== sound) loop = part?.to <= another.seconds ? part : null;
  sound = another;
  unlock();
  start(sound.complete && from >= sound.duration ? 0 : Math.max(0, Math.min(from, sound.seconds)));
}

export function pause() {
  silence();
  state = "paused";
}

/** Moves within what is there; what plays goes on from there. */
export function seek(to) {
  const part = loop ?? { from: 0, to: sound.seconds };
  const place = Math.min(Math.max(part.from, to), part.to);
  if (state === "paused") rest = place;
  else start(place);
}

/** Repeats a part, or none (null). */
export function repeat(part) {
  const at = position();
  loop = part;
  seek(part && at >= part.to ? part.from : at);
}

/** Forgets a song that is no more. */
export function leave(gone) {
  if (gone !== sound) return;
  pause();
  [sound, loop, rest] = [null, null, 0];
}

/** More of the song has come, or time has passed. */
export function update() {
  if (state === "playing" && voice.left() > (voice.isWhole() ? 0 : MARGIN)) {
    voice.extend();
  } else if (state === "playing") {
    silence();
    state = rest < sound.duration ? "buffering" : "paused";
  }
  if (state === "buffering" && sound.lasts(rest)) start(rest);
}

function start(from) {
  const next = createVoice(output, sound, from, loop); // takes some time itself
  silence();
  [rest, voice] = [from, next];
  state = "playing";
}

function silence() {
  rest = position();
  voice?.stop();
  voice = null;
}
