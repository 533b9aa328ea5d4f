"""One training batch of the language model: excerpts of songs, their captions, and loss weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

from training import data
from training.caption import add_unknown_words, write_caption
from training.music import Piece
from training.quantizer import drop_positions

FROM_START = 2 / 3  # share of the excerpts that begin where their song begins
# The text alone decides the first frame, so its loss weighs this much more. The weight decays over
# the next frames: slow and fast pieces differ first where a note is still missing.
OPENING_WEIGHT, OPENING_DECAY = 60.0, 2.0
# The first frames of an excerpt from later in a song weigh nothing. In a later window they are
# given; a model that learns to predict them begins songs in their middle.
CONTEXT = 100
# Share of these excerpts whose context loses its position codes: an encoder writes none of them.
POSITION_DROPOUT = 0.25


@dataclass(frozen=True)
class TrainingBatch:
    excerpts: Tensor  # int64 [songs, codebooks, frames]
    weights: Tensor  # float32 [songs, frames], of the loss
    captions: list[str]

    def to(self, device: torch.device) -> TrainingBatch:
        return replace(self, excerpts=self.excerpts.to(device), weights=self.weights.to(device))


def draw_batch(
    codes: Tensor, songs: int, frames: int, rng: Random, bar_weight: float
) -> TrainingBatch:
    """Draws from `codes` [songs, codebooks, frames], which hold song 0, song 1 and so on."""
    numbers = [rng.randrange(len(codes)) for _ in range(songs)]
    latest = codes.shape[-1] - frames
    starts = [0 if rng.random() < FROM_START else rng.randint(0, latest) for _ in numbers]
    pieces = [data.song(number) for number in numbers]
    captions = [add_unknown_words(write_caption(piece, rng), rng) for piece in pieces]
    excerpts = torch.stack(
        [codes[n, :, at : at + frames].long() for n, at in zip(numbers, starts, strict=True)]
    )
    for excerpt, start in zip(excerpts, starts, strict=True):
        if start and rng.random() < POSITION_DROPOUT:
            excerpt[:, :CONTEXT] = drop_positions(excerpt[:, :CONTEXT], data.FIRST_POSITION_CODE)
    weights = [
        loss_weights(piece, start, frames, bar_weight)
        for piece, start in zip(pieces, starts, strict=True)
    ]
    return TrainingBatch(excerpts, torch.stack(weights), captions)


def loss_weights(
    piece: Piece,
    start: int,
    frames: int,
    bar_weight: float,
    opening: float = OPENING_WEIGHT,
    context: int = CONTEXT,
) -> Tensor:
    """[frames] from frame `start` on; the first frame of each bar weighs at least `bar_weight`."""
    frame = torch.arange(frames)
    opened = 1 + opening / (1 + frame / OPENING_DECAY)
    weights = (frame >= context).float() if start else opened
    begins_bar = (start + frame) % piece.bar == 0
    return torch.where(begins_bar & (weights > 0), weights.clamp(min=bar_weight), weights)
