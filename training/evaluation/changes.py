"""Measures how often music follows a new prompt: `python -m training.evaluation.changes`.

Each song has two sections. Signal processing (see hearing.py) judges the second one from 4 s after
the change on, for what the first one does not have: a song that does not follow the change is
wrong. The training captions contain none of the prompts. Prints a Markdown table, then one line of
JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NamedTuple

from protocol.constants import FRAME_RATE, SAMPLE_RATE
from protocol.request import GenerationRequest
from protocol.section import Section
from training.evaluation import arguments
from training.evaluation.adherence import generate
from training.evaluation.hearing import (
    Sound,
    bass_or_flute,
    drums_or_strings,
    major_or_minor,
    slow_or_fast,
)

BEFORE, AFTER = 6, 12  # seconds of the sections
HEARD_WITHIN = 4  # seconds

Decision = tuple[Callable[[Sound], str], str]  # and its right answer

DRUMS, STRINGS = (drums_or_strings, "drums"), (drums_or_strings, "strings")
SLOW, FAST = (slow_or_fast, "slow"), (slow_or_fast, "fast")
BASS, FLUTE = (bass_or_flute, "bass"), (bass_or_flute, "flute")
MAJOR, MINOR = (major_or_minor, "major"), (major_or_minor, "minor")


class Change(NamedTuple):
    before: str
    after: str
    decisions: tuple[Decision, ...]  # about what follows `after`; all must be right


CHANGES = (
    Change("a string orchestra plays slowly", "now I hear only loud drums", (DRUMS,)),
    Change("a church organ in a major key", "fast drums and nothing else", (DRUMS,)),
    Change("une flûte calme et lente", "un solo de batterie très fort", (DRUMS,)),
    Change("someone plays loud and fast drums", "calm violins play in C major", (STRINGS, MAJOR)),
    Change("soft drums on their own", "des violons tristes en do mineur", (STRINGS, MINOR)),
    Change("a loud drummer plays fast", "a beautiful string quartet in a minor key", (STRINGS,)),
    Change("a slow guitar with soft drums", "a very fast guitar with drums, please", (FAST,)),
    Change("a slow and sad piano with drums", "a fast, happy synth over loud drums", (FAST, MAJOR)),
    Change("un orgue lent avec batterie", "une guitare rapide avec batterie", (FAST,)),
    Change("fast brass with loud drums", "this piano with drums is slow", (SLOW,)),
    Change("a fast flute with drums", "a slow organ with quiet drums in C minor", (SLOW, MINOR)),
    Change("des cordes rapides avec batterie", "une flûte lente avec une batterie", (SLOW,)),
    Change("a flute that plays high and fast", "a bass guitar, all on its own", (BASS,)),
    Change("a high melody on the flute", "nothing but a slow bass from here on", (BASS,)),
    Change("a low and slow bass alone", "a cheerful flute alone, in C major", (FLUTE, MAJOR)),
    Change("a bass guitar with drums", "une flûte seule dans la nuit", (FLUTE,)),
    Change("a happy piano in a major key", "a sad piano in a minor key", (MINOR,)),
    Change("a guitar in C major", "the synthesizer is in C minor, dark and low", (MINOR,)),
    Change("dark strings in a minor key", "a joyful organ in a major key", (MAJOR,)),
    Change("une trompette triste en mineur", "un piano joyeux en do majeur", (MAJOR,)),
)


def request(
    change: Change, seed: int, guidance: float = GenerationRequest.cfg_coef
) -> GenerationRequest:
    before = Section(change.before, BEFORE * FRAME_RATE, cfg_coef=guidance)
    after = Section(change.after, AFTER * FRAME_RATE, cfg_coef=guidance)
    return GenerationRequest(
        change.before, before.frames + after.frames, seed=seed, sections=(before, after)
    )


def judge(change: Change, sound: Sound) -> bool:
    """Whether what follows the change is right in all that the change asks for."""
    heard = sound[(BEFORE + HEARD_WITHIN) * SAMPLE_RATE :]
    return all(decide(heard) == side for decide, side in change.decisions)


def main() -> None:
    model, seeds, guidance = arguments.read("change")
    sounds = iter(
        generate(
            model,
            [request(c, seed, guidance) for c in CHANGES for seed in range(seeds)],
        )
    )
    right = {change: sum(judge(change, next(sounds)) for _ in range(seeds)) for change in CHANGES}
    print(f"| before | after | right of {seeds} |\n| --- | --- | --- |")
    for change, count in right.items():
        print(f"| {change.before} | {change.after} | {count} |")
    result = {
        "bench": "changes",
        "guidance": guidance,
        "songs": len(CHANGES) * seeds,
        "right": sum(right.values()),
        "changes": {change.after: count for change, count in right.items()},
    }
    print("\n" + json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
