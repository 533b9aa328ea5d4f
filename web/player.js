/** The player: one song at a time, which may still be generating. */

import { clamp } from "./ui.js";
import { FADE, Voice } from "./voice.js";

const MARGIN = 3 * FADE; // Playback stops this many seconds before it runs out of samples.
const RATE = 32000; // Hz, MusicGen's own, so that nothing is resampled
const VOLUME_SMOOTHING = 0.02; // seconds

export let state = "paused"; // or "playing", or "buffering" while the song is slower than playback
export let sound = null;
export let loop = null; // {from, to} in seconds; it begins once all of it is received
let output = null;
let volume = 1; // 0 to 1; its square is the gain, which sounds more even
let voice = null;
let restPosition = 0; // in seconds, while nothing plays

/** In seconds. */
export function position() {
  return voice ? voice.position : restPosition;
}

/** Enables audio. Call it in an event of the user: browsers forbid audio otherwise. */
export function unlock() {
  if (!output) {
    const context = new AudioContext({ sampleRate: RATE });
    output = new GainNode(context, { gain: volume ** 2 });
    output.connect(context.destination);
  }
  if (navigator.audioSession) navigator.audioSession.type = "playback"; // else iPhones can be mute
  output.context.resume();
}

export function setVolume(newVolume) {
  volume = newVolume;
  output?.gain.setTargetAtTime(volume ** 2, output.context.currentTime, VOLUME_SMOOTHING);
}

/** Plays a song from a second on. A new song takes `newLoop`. */
export function play(newSound, from, newLoop = null) {
  take(newSound, newLoop);
  const isAtEnd = sound.complete && from >= sound.duration;
  start(isAtEnd ? 0 : clamp(from, 0, sound.seconds));
}

export function cue(newSound, at, newLoop = null) {
  pause();
  take(newSound, newLoop);
  restPosition = clamp(at, 0, sound.seconds);
}

function take(newSound, newLoop) {
  if (newSound !== sound) loop = newLoop;
  sound = newSound;
}

export function pause() {
  silence();
  state = "paused";
}

export function seek(to) {
  const { from, to: end } = loop ?? { from: 0, to: Infinity };
  const target = clamp(to, from, Math.min(end, sound.seconds));
  if (state === "paused") restPosition = target;
  else start(target);
}

export function setLoop(newLoop) {
  const current = position();
  loop = newLoop;
  const isPastLoop = loop && current >= loop.to;
  seek(isPastLoop ? loop.from : current);
}

export function forget() {
  pause();
  sound = null;
  loop = null;
  restPosition = 0;
}

/** Call it often: it schedules new samples, and buffers or ends where there are none. */
export function update() {
  if (state === "playing") updatePlaying();
  if (state === "buffering" && sound.canPlayThrough(restPosition)) start(restPosition);
}

function updatePlaying() {
  if (receivedLoop() !== voice.loop) setLoop(loop);
  if (voice.secondsLeft > (voice.isWhole ? 0 : MARGIN)) {
    voice.extend();
  } else {
    silence();
    state = restPosition < sound.duration ? "buffering" : "paused";
  }
}

function start(from) {
  const newVoice = new Voice(output, sound, from, receivedLoop()); // takes time, so the old voice plays on
  silence();
  restPosition = from;
  voice = newVoice;
  state = "playing";
}

function receivedLoop() {
  return loop?.to <= sound.seconds ? loop : null;
}

function silence() {
  restPosition = position();
  voice?.stop();
  voice = null;
}
