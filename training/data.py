"""The songs that musicgen-tiny learns from: composed, played and written down in codes."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from random import Random

import torch
from torch import Tensor

from training import sound
from training.music import MOMENTS, PLACES, Part, Piece, compose, invent, moments, places
from training.quantizer import PARTS, quantise
from training.structure import TINY
from training.transform import Transform

SONGS = 3_200
FRAMES = 1_800  # of each song: a window of 30 s can begin at its start or later
# The first of the codes of silence that tell the moment.
METRONOME = TINY.codes - max(MOMENTS, PLACES)


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


def codes(count: int, transform: Transform, books: Tensor) -> Iterator[Tensor]:
    """int16 [codebooks, frames] of songs 0 to `count`, made on all cores."""
    with ProcessPoolExecutor(
        os.cpu_count(), get_context("spawn"), _prepare, (transform, books)
    ) as pool:
        yield from pool.map(_encode, range(count), chunksize=16)


_codec: tuple[Transform, Tensor]


def _prepare(transform: Transform, books: Tensor) -> None:
    global _codec
    _codec = transform, books
    torch.set_num_threads(1)


def _encode(number: int) -> Tensor:
    transform, books = _codec
    heard = {part: transform(audio) for part, audio in parts(number).items()}
    piece = song(number)
    told: dict[Part, list[int]] = {"drums": moments(piece, FRAMES), "bass": places(piece, FRAMES)}
    silence = {part: METRONOME + torch.tensor(numbers) for part, numbers in told.items()}
    return quantise(heard, books, silence).short()
