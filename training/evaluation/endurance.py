"""Whether a long song stays music to its end: `python -m training.evaluation.endurance`.

Songs of 60 s, made in windows of 30 s, are judged in pieces of 10 s by bench/hearing.py: the tempo,
how much of what sounds is in the key, notes begun a second, loudness. Beside them, as the measure's
own limit, songs composed for the training that it never saw. A Markdown table first, one line of
JSON last.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from training.evaluation.adherence import sing
from training.evaluation.hearing import Sound, onset_rate, pitch_classes, tempo
from musicgen_engine.core.loaded_model import Model
from musicgen_engine.config import Placement
from protocol.request import FRAME_RATE, SAMPLE_RATE, Song
from training import data
from training.language_model import HELD_OUT
from training.music import SCALES, Mode

SECONDS = 60
LENGTH = 10 * SAMPLE_RATE  # samples of a piece
# All have drums, which tell the tempo, and name their mode.
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
class Piece:
    tempo: float  # beats a minute
    in_key: float  # share of what sounds
    onsets: float  # a second
    level: float  # dB below full scale, of the mean energy


def pieces(sound: Sound, mode: Mode) -> list[Piece]:
    return [
        Piece(
            round(tempo(part)),
            round(float(pitch_classes(part)[[*SCALES[mode]]].sum()), 3),
            round(onset_rate(part), 1),
            round(float(10 * np.log10(np.square(part).mean() + 1e-9)), 1),
        )
        for part in np.split(sound[: len(sound) // LENGTH * LENGTH], len(sound) // LENGTH)
    ]


def composed() -> list[tuple[Sound, Mode]]:
    """Songs that the training kept apart, as long as its songs are, with drums and a melody."""
    held_out = range(data.SONGS - HELD_OUT, data.SONGS)
    numbers = [n for n in held_out if data.song(n).drums and data.song(n).leads][:COMPOSED]
    return [(data.audio(n).numpy(), data.song(n).mode) for n in numbers]


def summary(songs: Iterable[list[Piece]]) -> dict[str, object]:
    """How a song's later pieces are to its first."""
    songs = list(songs)
    later = [(song[0], piece) for song in songs for piece in song[1:]]
    return {
        "pieces": len(later),
        "tempo_kept": sum(first.tempo == piece.tempo for first, piece in later),
        "in_key_first": round(float(np.mean([song[0].in_key for song in songs])), 3),
        "in_key_last": round(float(np.mean([song[-1].in_key for song in songs])), 3),
        "onsets_first": round(float(np.mean([song[0].onsets for song in songs])), 1),
        "onsets_last": round(float(np.mean([song[-1].onsets for song in songs])), 1),
        "quietest": min(piece.level for song in songs for piece in song),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path("model_repository/musicgen-tiny/1"))
    parser.add_argument("--seeds", type=int, default=2, help="songs of each prompt")
    arguments = parser.parse_args()
    seeds: int = arguments.seeds
    model = Model.load(arguments.folder.resolve(), Placement())
    wanted = [(text, mode, seed) for text, mode in PROMPTS for seed in range(seeds)]
    sounds = sing(model, [Song(text, SECONDS * FRAME_RATE, seed) for text, _, seed in wanted])
    heard = [pieces(sound, mode) for sound, (_, mode, _) in zip(sounds, wanted, strict=True)]
    print("Of each 10 s:\n")
    print("| prompt | seed | beats a minute | in key, % | notes a second | level, dB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (text, _, seed), song in zip(wanted, heard, strict=True):
        columns = (
            [f"{piece.tempo:.0f}" for piece in song],
            [f"{100 * piece.in_key:.0f}" for piece in song],
            [f"{piece.onsets:.0f}" for piece in song],
            [f"{piece.level:.0f}" for piece in song],
        )
        print(f"| {text} | {seed} | {' | '.join(' '.join(column) for column in columns)} |")
    result = {
        "bench": "endurance",
        "generated": summary(heard),
        "composed": summary(pieces(sound, mode) for sound, mode in composed()),
        "songs": [[asdict(piece) for piece in song] for song in heard],
    }
    print("\n" + json.dumps(result))


if __name__ == "__main__":
    main()
