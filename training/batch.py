"""What the language model learns from in one step: excerpts, captions, and what counts how much."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

from training import data
from training.caption import describe, disturb
from training.music import Piece
from training.quantizer import unclocked

BEGINNINGS = 2 / 3  # of the excerpts are the beginning of their song
# The first frame, which the text alone decides, counts this much more; those after it less and
# less: a slow piece is told from a fast one by a note that has not come yet.
OPENING_WEIGHT, OPENING_FADES = 60.0, 2.0
# Of an excerpt from later in a song the first frames do not count at all: in a later window they
# are given, and who learns to guess them begins songs in their middle.
GIVEN = 100
# In so many of these the metronome is not given: an encoder that hears music writes none.
UNCLOCKED = 0.25


@dataclass(frozen=True)
class Batch:
    excerpts: Tensor  # int64 [songs, codebooks, frames]
    weights: Tensor  # float32 [songs, frames]: how much each counts
    captions: list[str]

    def to(self, device: torch.device) -> Batch:
        return replace(self, excerpts=self.excerpts.to(device), weights=self.weights.to(device))


def draw(codes: Tensor, songs: int, frames: int, rng: Random, bar_weight: float) -> Batch:
    """Of the songs that `codes` [songs, codebooks, frames] are, from 0 on."""
    numbers = [rng.randrange(len(codes)) for _ in range(songs)]
    latest = codes.shape[-1] - frames
    starts = [0 if rng.random() < BEGINNINGS else rng.randint(0, latest) for _ in numbers]
    pieces = [data.song(number) for number in numbers]
    captions = [disturb(describe(piece, rng), rng) for piece in pieces]
    excerpts = torch.stack(
        [codes[n, :, at : at + frames].long() for n, at in zip(numbers, starts, strict=True)]
    )
    for excerpt, start in zip(excerpts, starts, strict=True):
        if start and rng.random() < UNCLOCKED:
            excerpt[:, :GIVEN] = unclocked(excerpt[:, :GIVEN], data.METRONOME)
    weights = [
        weights_of(piece, start, frames, bar_weight)
        for piece, start in zip(pieces, starts, strict=True)
    ]
    return Batch(excerpts, torch.stack(weights), captions)


def weights_of(piece: Piece, start: int, frames: int, bar_weight: float) -> Tensor:
    """How much the frames from `start` on count, [frames]; bars' first ones count `bar_weight`."""
    frame = torch.arange(frames)
    opening = 1 + OPENING_WEIGHT / (1 + frame / OPENING_FADES)
    weights = (frame >= GIVEN).float() if start else opening
    begins_bar = (start + frame) % piece.bar == 0
    return torch.where(begins_bar & (weights > 0), weights.clamp(min=bar_weight), weights)
