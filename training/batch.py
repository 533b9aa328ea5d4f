"""One training batch of the language model: excerpts of songs, their captions, and loss weights."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple, TypeVar

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


Batch = TypeVar("Batch", bound="TrainingBatch")


class Excerpt(NamedTuple):
    number: int  # of its song
    start: int  # frame of the song
    codes: Tensor  # int64 [codebooks, frames]
    weights: Tensor  # float32 [frames], of the loss
    caption: str


@dataclass(frozen=True)
class TrainingBatch:
    excerpts: Tensor  # int64 [songs, codebooks, frames]
    weights: Tensor  # float32 [songs, codebooks, frames], of the loss
    captions: list[str]

    def to(self: Batch, device: torch.device) -> Batch:
        return replace(self, excerpts=self.excerpts.to(device), weights=self.weights.to(device))


def draw_batch(
    codes: Tensor, numbers: range, songs: int, frames: int, rng: Random, bar_weight: float
) -> TrainingBatch:
    drawn = [
        draw_excerpt(codes, rng.choice(numbers), frames, rng, bar_weight) for _ in range(songs)
    ]
    excerpts = torch.stack([excerpt.codes for excerpt in drawn])
    weights = torch.stack([excerpt.weights for excerpt in drawn])[:, None].expand_as(excerpts)
    return TrainingBatch(excerpts, weights, [excerpt.caption for excerpt in drawn])


def draw_excerpt(
    codes: Tensor, number: int, frames: int, rng: Random, bar_weight: float
) -> Excerpt:
    """Of the song with this number; `codes` [songs, codebooks, frames] are of all."""
    start = 0 if rng.random() < FROM_START else rng.randint(0, codes.shape[-1] - frames)
    piece = data.song(number)
    excerpt = codes[number, :, start : start + frames].long()
    if start and rng.random() < POSITION_DROPOUT:
        excerpt[:, :CONTEXT] = drop_positions(excerpt[:, :CONTEXT], data.FIRST_POSITION_CODE)
    weights = loss_weights(piece, start, frames, bar_weight, context=CONTEXT if start else 0)
    return Excerpt(number, start, excerpt, weights, draw_caption(piece, rng))


def draw_caption(piece: Piece, rng: Random, named: Collection[str] = ()) -> str:
    """With words that mean nothing; `named` are the traits that it must name."""
    return add_unknown_words(write_caption(piece, rng, named), rng)


def loss_weights(
    piece: Piece,
    start: int,
    frames: int,
    bar_weight: float,
    opening: float = OPENING_WEIGHT,
    context: int = 0,
) -> Tensor:
    """[frames] from frame `start` on; the first frame of each bar weighs at least `bar_weight`.

    Without `context`, frames that weigh nothing, the text alone decides how the excerpt opens.
    """
    frame = torch.arange(frames)
    opened = 1 + opening / (1 + frame / OPENING_DECAY)
    weights = (frame >= context).float() if context else opened
    begins_bar = (start + frame) % piece.bar == 0
    return torch.where(begins_bar & (weights > 0), weights.clamp(min=bar_weight), weights)
