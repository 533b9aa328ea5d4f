"""The training songs of musicgen-tiny: composed, played and encoded. A number names each song."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from random import Random

import torch
from torch import Tensor

from training import sound
from training.music import (
    BAR_POSITIONS,
    PHRASE_POSITIONS,
    Part,
    Piece,
    bar_positions,
    compose,
    invent,
    phrase_positions,
)
from training.quantizer import PARTS, quantise
from training.structure import TINY
from training.transform import Transform

SONGS = 3_200
FRAMES = 1_800  # of each song: a window of 30 s can begin at its start or later
# The codes from here on all mean silence; each stands for a position in the bar or the phrase.
FIRST_POSITION_CODE = TINY.vocab_size - max(BAR_POSITIONS, PHRASE_POSITIONS)


def song(number: int) -> Piece:
    return invent(Random(f"piece {number}"))


def parts(number: int, frames: int = FRAMES) -> dict[Part, Tensor]:
    """float32 [frames * 640] each; their sum is the song."""
    notes = compose(song(number), frames, Random(f"notes {number}"))
    return {
        part: torch.from_numpy(sound.play([note for note in notes if note.part == part], frames))
        for part in PARTS
    }


def audio(number: int, frames: int = FRAMES) -> Tensor:
    """float32 [frames * 640]"""
    return torch.stack([*parts(number, frames).values()]).sum(0)


def encode_songs(count: int, transform: Transform, codebooks: Tensor) -> Iterator[Tensor]:
    """Yields int16 [codebooks, frames] of songs 0 to `count`, encoded on all cores."""
    with ProcessPoolExecutor(
        os.cpu_count(), get_context("spawn"), _start_worker, (transform, codebooks)
    ) as pool:
        yield from pool.map(_encode, range(count), chunksize=16)


_codec: tuple[Transform, Tensor]


def _start_worker(transform: Transform, codebooks: Tensor) -> None:
    global _codec
    _codec = transform, codebooks
    torch.set_num_threads(1)


def _encode(number: int) -> Tensor:
    transform, codebooks = _codec
    features = {part: transform(audio) for part, audio in parts(number).items()}
    piece = song(number)
    positions: dict[Part, list[int]] = {
        "drums": bar_positions(piece, FRAMES),
        "bass": phrase_positions(piece, FRAMES),
    }
    silence = {part: FIRST_POSITION_CODE + torch.tensor(at) for part, at in positions.items()}
    return quantise(features, codebooks, silence).short()
