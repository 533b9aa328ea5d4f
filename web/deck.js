/** The deck: the takes of one song, the chosen one, and what plays. */

import * as player from "./player.js";
import { takesOf } from "./songs.js";

const LEAD_IN = 3; // seconds of what is there that play before a part that is made anew
const tabs = new BroadcastChannel("playback"); // Only one tab sounds.

export let chosen = null; // one of the takes, or null
export let current = null; // the generation in the player, which may be of another song
let eager = []; // {generations, from}: the first that sounds plays, from that second on
let wanted = null; // the generation that shall play, or rest in the player, once it is loaded
let onChange = () => {};

export function watch(callback) {
  onChange = callback;
}

export function takes() {
  return chosen ? takesOf(chosen) : [];
}

/** Puts a take on the deck, with the others of its song. Audio that plays meanwhile plays on. */
export function show(take) {
  const before = takes();
  chosen = take;
  for (const old of before) if (!takes().includes(old) && old !== current) old.unload();
  onChange();
}

/** Plays the first of these takes that sounds, and until then the first of those before. */
export function playFirst(generations) {
  eager.push({ generations });
}

/** Chooses a take, which goes on at the position of the one before. */
export async function choose(take) {
  if (!take) return;
  show(take);
  if (player.state === "paused") await rest(take);
  else await play(take);
}

/** Plays a take, from a second on if one is given; one that does not sound yet, once it does. */
export async function play(take = chosen, from = null) {
  player.unlock();
  eager = [];
  wanted = take;
  await take.load();
  if (take !== wanted) return;
  if (!take.sound) {
    eager = [{ generations: [take], from }];
    return;
  }
  const { position, loop } = enter(take);
  player.play(take.sound, from ?? position, loop);
  tabs.postMessage("plays");
}

/** The second of a take at which the player is. */
export function positionOf(take) {
  return take && take === current ? player.position() : 0;
}

/** The loop of a take, or null. */
export function loopOf(take) {
  return take === current ? player.loop : null;
}

export function toggle() {
  if (player.state !== "paused") player.pause();
  else if (chosen) play();
}

export function seek(to) {
  if (chosen === current) player.seek(to);
  else play(chosen, to);
}

/** Repeats a part of the chosen take; null ends that. */
export async function setLoop(loop) {
  if (chosen !== current) await play(chosen, loop.from);
  player.setLoop(loop);
}

/** Plays a take that is made anew from a second on: from shortly before it, or on. */
export function playFrom(take, second) {
  const { position } = sharedWith(take);
  const isBefore = player.state !== "paused" && position < second;
  show(take);
  play(take, isBefore ? position : Math.max(0, second - LEAD_IN));
}

export function update(take) {
  if (!take.sound) return;
  if (take === current && !canLoop(take)) player.setLoop(null);
  const wish = eager.find(({ generations }) => generations.includes(take));
  if (wish) {
    const newest = eager.at(-1);
    if (takes().includes(take)) show(take);
    play(take, wish.from);
    if (wish !== newest) eager = [newest];
  } else if (take === chosen && take !== current && player.state === "paused") {
    rest(take);
  }
}

/** Takes a deleted generation off the deck; the take before it, or after it, is chosen. */
export function forget(take) {
  if (take === current) {
    player.forget();
    current = null;
  }
  if (take !== chosen) return onChange();
  const others = takes();
  const before = others.findLast(({ record }) => record.take < take.record.take);
  show(before ?? others[0] ?? null);
  choose(chosen);
}

async function rest(take) {
  wanted = take;
  await take.load();
  if (!take.sound || take !== wanted || player.state !== "paused") return;
  const { position, loop } = enter(take);
  player.cue(take.sound, position, loop);
  onChange();
}

/** Makes a take the current one. Returns the position and the loop that it shares with the last. */
function enter(take) {
  const last = current;
  const shared = sharedWith(take);
  current = take;
  if (last && !takes().includes(last)) last.unload();
  return shared;
}

function sharedWith(take) {
  if (current?.record.group !== take.record.group) return { position: 0, loop: null };
  return { position: player.position(), loop: canLoop(take) ? player.loop : null };
}

/** Whether the take has, or will have, all of the player's loop. */
function canLoop({ record, duration, seconds }) {
  return !player.loop || player.loop.to <= (record.isUnfinished ? duration : seconds);
}

tabs.addEventListener("message", () => player.pause());
