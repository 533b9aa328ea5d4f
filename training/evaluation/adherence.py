"""Measures how often the music follows the prompt: `python -m training.evaluation.adherence`.

The training captions contain none of the prompts, and each prompt asks only for what its decision
judges (see hearing.py). The wordings have other words than the prompts, chosen after the training.
Songs have the default settings. Chance is one half. Prints Markdown tables, then one line of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bench import offline
from musicgen_engine.core.loaded_model import LoadedModel
from protocol.constants import FRAME_RATE
from protocol.request import GenerationRequest
from training.evaluation import arguments
from training.evaluation.hearing import (
    Sound,
    bass_or_flute,
    drums_or_strings,
    major_or_minor,
    slow_or_fast,
)

SECONDS = 8


class Prompt(NamedTuple):
    text: str
    side: str
    decide: Callable[[Sound], str]

    @property
    def pair(self) -> str:
        return self.decide.__name__.replace("_", " ")


# Prompts for slow or fast have drums: without drums a tempo sounds like its double.
PROMPTS = (
    Prompt("I would like to hear someone play the drums", "drums", drums_or_strings),
    Prompt("nothing but percussion, as loud as you can", "drums", drums_or_strings),
    Prompt("un solo de batterie pour ce soir", "drums", drums_or_strings),
    Prompt("a string orchestra plays a beautiful melody for us", "strings", drums_or_strings),
    Prompt("je voudrais entendre de jolis violons", "strings", drums_or_strings),
    Prompt("a piano and soft drums, both very slow and sad", "slow", slow_or_fast),
    Prompt("this music is slow: an organ plays over quiet drums", "slow", slow_or_fast),
    Prompt("une mélodie lente à la guitare, avec batterie", "slow", slow_or_fast),
    Prompt("can you play a fast and happy guitar with drums?", "fast", slow_or_fast),
    Prompt("une flûte joyeuse et une batterie, le tout très rapide", "fast", slow_or_fast),
    Prompt("only a bass guitar and nothing else", "bass", bass_or_flute),
    Prompt("this is the bass, all alone", "bass", bass_or_flute),
    Prompt("la basse joue un solo pour moi", "bass", bass_or_flute),
    Prompt("please play me a lively tune on the flute", "flute", bass_or_flute),
    Prompt("une flûte toute seule dans le jardin", "flute", bass_or_flute),
    Prompt("I am happy today: a piano in a major key", "major", major_or_minor),
    Prompt("there is a cheerful flute that plays in C major", "major", major_or_minor),
    Prompt("an organ in a minor key, which makes me sad", "minor", major_or_minor),
    Prompt("the guitar is in C minor and dark like the night", "minor", major_or_minor),
    Prompt("des violons tristes qui jouent en do mineur", "minor", major_or_minor),
)
WORDINGS = (
    Prompt("give me a drum kit, loud and alone", "drums", drums_or_strings),
    Prompt("percussionists who play without anyone else", "drums", drums_or_strings),
    Prompt("rien que des tambours, s'il te plaît", "drums", drums_or_strings),
    Prompt("some violas and a cello for a quiet evening", "strings", drums_or_strings),
    Prompt("un orchestre à cordes dans une grande église", "strings", drums_or_strings),
    Prompt("an unhurried keyboard with a soft drummer", "slow", slow_or_fast),
    Prompt("slowly, a pipe organ and gentle drums", "slow", slow_or_fast),
    Prompt("une trompette et une batterie, tempo lent", "slow", slow_or_fast),
    Prompt("a quick trumpet and a beat, as if we were late", "fast", slow_or_fast),
    Prompt("un synthé avec batterie à toute vitesse, très vite", "fast", slow_or_fast),
    Prompt("a bassline and not one thing more", "bass", bass_or_flute),
    Prompt("our bassist plays unaccompanied", "bass", bass_or_flute),
    Prompt("une contrebasse dans une cave", "bass", bass_or_flute),
    Prompt("a flutist practises in her room", "flute", bass_or_flute),
    Prompt("somebody plays the recorder by the sea", "flute", bass_or_flute),
    Prompt("a joyful guitarist, C major", "major", major_or_minor),
    Prompt("un clavier gai en do majeur", "major", major_or_minor),
    Prompt("a mournful pianist, minor key", "minor", major_or_minor),
    Prompt("une guitare mélancolique, gamme mineure", "minor", major_or_minor),
    Prompt("the brass band is sad: it plays in C minor", "minor", major_or_minor),
)


def judge(prompt: Prompt, sound: Sound) -> bool:
    """Whether the sound is on the prompt's side."""
    return prompt.decide(sound) == prompt.side


def generate(model: LoadedModel, requests: list[GenerationRequest]) -> list[Sound]:
    """The first channel of each song, generated in one batch."""
    recorder = offline.generate(model, requests)
    return [recorder.audio(id)[0] for id in range(len(requests))]


def count_right(
    model: LoadedModel, prompts: Sequence[Prompt], seeds: int, guidance: float
) -> dict[Prompt, int]:
    requests = [
        GenerationRequest(prompt.text, SECONDS * FRAME_RATE, seed=seed, cfg_coef=guidance)
        for prompt in prompts
        for seed in range(seeds)
    ]
    sounds = iter(generate(model, requests))
    return {prompt: sum(judge(prompt, next(sounds)) for _ in range(seeds)) for prompt in prompts}


def main() -> None:
    model, seeds, guidance = arguments.read("prompt")
    result: dict[str, Any] = {"bench": "adherence", "guidance": guidance}
    for name, prompts in (("prompts", PROMPTS), ("wordings", WORDINGS)):
        right = count_right(model, prompts, seeds, guidance)
        pairs = dict.fromkeys((prompt.pair for prompt in prompts), 0)
        print(f"| pair | {name} | right of {seeds} |\n| --- | --- | --- |")
        for prompt, count in right.items():
            pairs[prompt.pair] += count
            print(f"| {prompt.pair} | {prompt.text} | {count} |")
        songs = len(prompts) * seeds
        print(f"\n| pair | right of {songs // len(pairs)} |\n| --- | --- |")
        for pair, count in pairs.items():
            print(f"| {pair} | {count} |")
        print(f"| all {songs} | {sum(pairs.values())} |\n", flush=True)
        result[name] = {
            "songs": songs,
            "right": sum(pairs.values()),
            "pairs": pairs,
            "prompts": {prompt.text: count for prompt, count in right.items()},
        }
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
