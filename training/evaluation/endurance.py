"""Measures whether long songs keep tempo and key: `python -m training.evaluation.endurance`.

Generates songs of 60 s in windows of 30 s, and measures each 10 s (see hearing.py): tempo, share of
the sound in key, notes per second, loudness. The same measures of held-out training songs show the
limit. Prints a Markdown table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from musicgen_engine.config import ModelConfig
from musicgen_engine.core.loaded_model import LoadedModel
from protocol.constants import FRAME_RATE, SAMPLE_RATE
from protocol.request import GenerationRequest
from training import data
from training.evaluation.adherence import generate
from training.evaluation.hearing import Sound, onset_rate, pitch_classes, tempo
from training.language_model import HELD_OUT
from training.music import SCALES, Mode

SECONDS = 60
LENGTH = 10 * SAMPLE_RATE  # samples of an excerpt
# All have drums, which make the tempo measurable, and name their mode.
PROMPTS: tuple[tuple[str, Mode], ...] = (
    ("slow sad piano in a minor key with soft drums", "minor"),
    ("slow organ in a major key with drums", "major"),
    ("medium tempo guitar in a major key with loud drums", "major"),
    ("medium tempo strings in a minor key with drums", "minor"),
    ("fast happy flute in a major key with drums", "major"),
    ("fast epic brass in a minor key with loud drums", "minor"),
)
COMPOSED = 12  # songs


@dataclass(frozen=True)
class Excerpt:
    tempo: float  # beats per minute
    in_key: float  # share of the sound
    onsets: float  # per second
    level: float  # dB of the mean energy; full scale is 0


def measure(sound: Sound, mode: Mode) -> list[Excerpt]:
    return [
        Excerpt(
            round(tempo(part)),
            round(float(pitch_classes(part)[[*SCALES[mode]]].sum()), 3),
            round(onset_rate(part), 1),
            round(float(10 * np.log10(np.square(part).mean() + 1e-9)), 1),
        )
        for part in np.split(sound[: len(sound) // LENGTH * LENGTH], len(sound) // LENGTH)
    ]


def composed() -> list[tuple[Sound, Mode]]:
    """Held-out training songs with drums and a melody."""
    held_out = range(data.SONGS - HELD_OUT, data.SONGS)
    numbers = [n for n in held_out if data.song(n).drums and data.song(n).leads][:COMPOSED]
    return [(data.audio(n).numpy(), data.song(n).mode) for n in numbers]


def summary(songs: Iterable[list[Excerpt]]) -> dict[str, object]:
    """Compares the later excerpts of each song with its first."""
    songs = list(songs)
    later = [(song[0], excerpt) for song in songs for excerpt in song[1:]]
    return {
        "excerpts": len(later),
        "tempo_kept": sum(first.tempo == excerpt.tempo for first, excerpt in later),
        "in_key_first": round(float(np.mean([song[0].in_key for song in songs])), 3),
        "in_key_last": round(float(np.mean([song[-1].in_key for song in songs])), 3),
        "onsets_first": round(float(np.mean([song[0].onsets for song in songs])), 1),
        "onsets_last": round(float(np.mean([song[-1].onsets for song in songs])), 1),
        "quietest": min(excerpt.level for song in songs for excerpt in song),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path("model_repository/musicgen-tiny/1"))
    parser.add_argument("--seeds", type=int, default=2, help="songs of each prompt")
    parser.add_argument("--precision", default="auto", help="float32, or int8")
    arguments = parser.parse_args()
    seeds: int = arguments.seeds
    model = LoadedModel.load(arguments.folder.resolve(), ModelConfig(precision=arguments.precision))
    wanted = [(text, mode, seed) for text, mode in PROMPTS for seed in range(seeds)]
    requests = [
        GenerationRequest(text, SECONDS * FRAME_RATE, seed=seed) for text, _, seed in wanted
    ]
    sounds = generate(model, requests)
    songs = [measure(sound, mode) for sound, (_, mode, _) in zip(sounds, wanted, strict=True)]
    print("Each 10 s:\n")
    print("| prompt | seed | beats per minute | in key, % | notes per second | level, dB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (text, _, seed), song in zip(wanted, songs, strict=True):
        columns = (
            [f"{excerpt.tempo:.0f}" for excerpt in song],
            [f"{100 * excerpt.in_key:.0f}" for excerpt in song],
            [f"{excerpt.onsets:.0f}" for excerpt in song],
            [f"{excerpt.level:.0f}" for excerpt in song],
        )
        print(f"| {text} | {seed} | {' | '.join(' '.join(column) for column in columns)} |")
    result = {
        "bench": "endurance",
        "generated": summary(songs),
        "composed": summary(measure(sound, mode) for sound, mode in composed()),
        "songs": [[asdict(excerpt) for excerpt in song] for song in songs],
    }
    print("\n" + json.dumps(result))


if __name__ == "__main__":
    main()
