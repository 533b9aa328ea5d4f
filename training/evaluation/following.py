"""Measures how well songs follow a melody: `python -m training.evaluation.following`.

Generates songs of 8 s to 20 tunes that are not in the training data (see tunes.py), and compares
the pitch class of song and tune in each frame with a tone (see hearing.py). The same songs compared
with the next tune show what chance gives. Prints a Markdown table, then one line of JSON.
"""

from __future__ import annotations

import json

import numpy as np

from protocol.constants import SAMPLES_PER_FRAME
from protocol.request import GenerationRequest
from training.evaluation import arguments
from training.evaluation.adherence import generate
from training.evaluation.hearing import Sound, melody_classes
from training.evaluation.tunes import TUNES, whistle

SECONDS = 8
PROMPTS = (
    "piano", "flute", "strings", "brass", "organ", "guitar", "synth", "piano with soft drums",
    "flute with bass and drums", "happy guitar with loud drums",
)  # fmt: skip


def agreement(song: Sound, tune: Sound) -> float:
    """The share of the frames with a tone of the tune in which the song has its pitch class."""
    ours, theirs = melody_classes(song), melody_classes(tune[: len(song)])
    voiced = theirs >= 0
    return float((ours == theirs)[voiced].mean())


def request(prompt: str, tune: Sound, seed: int, guidance: float) -> GenerationRequest:
    """A song as long as the tune."""
    return GenerationRequest(
        prompt,
        len(tune) // SAMPLES_PER_FRAME,
        seed=seed,
        cfg_coef=guidance,
        melody=tune[None],
        separate=False,
    )


def main() -> None:
    model, seeds, guidance = arguments.read("tune", "musicgen-tiny-melody")
    tunes = [whistle(tune, SECONDS) for tune in TUNES]
    prompts = [
        PROMPTS[(number + seed) % len(PROMPTS)]
        for number in range(len(TUNES))
        for seed in range(seeds)
    ]
    wanted = [tune for tune in tunes for _ in range(seeds)]
    others = [tune for tune in [*tunes[1:], tunes[0]] for _ in range(seeds)]
    songs = generate(
        model,
        [
            request(prompt, tune, number, guidance)
            for number, (prompt, tune) in enumerate(zip(prompts, wanted, strict=True))
        ],
    )
    right = np.array([agreement(*pair) for pair in zip(songs, wanted, strict=True)])
    chance = np.array([agreement(*pair) for pair in zip(songs, others, strict=True)])
    by_tune = right.reshape(-1, seeds)
    print("| tune | agrees, % |\n| --- | --- |")
    for tune, shares in zip(TUNES, by_tune, strict=True):
        print(f"| {tune.name} | {' '.join(f'{100 * share:.0f}' for share in shares)} |")
    print("\n| prompt | agrees, % |\n| --- | --- |")
    by_prompt = {
        prompt: np.mean([share for share, one in zip(right, prompts, strict=True) if one == prompt])
        for prompt in PROMPTS
    }
    for prompt, share in by_prompt.items():
        print(f"| {prompt} | {100 * share:.0f} |")
    result = {
        "bench": "following",
        "guidance": guidance,
        "songs": len(songs),
        "agreement": round(float(right.mean()), 3),
        "songs_above_80": int((right >= 0.8).sum()),
        "with_the_next_tune": round(float(chance.mean()), 3),
    }
    print("\n" + json.dumps(result))


if __name__ == "__main__":
    main()
