"""One training batch of the language model: excerpts of songs, their captions, and loss weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

from training import data
from training.caption import add_unknown_words, qualities, tempo_quality, write_caption
from training.music import BEATS, FRAMES_PER_STEP, PHRASE, Piece, Tempo
from training.quantizer import PARTS, POSITIONED, drop_positions

FROM_START = 2 / 3  # share of the excerpts that begin where their song begins
# The text alone decides the first frame, so its loss weighs this much more. The weight decays over
# the next frames: slow and fast pieces differ first where a note is still missing.
OPENING_WEIGHT, OPENING_DECAY = 60.0, 2.0
# The first frames of an excerpt from later in a song weigh nothing. In a later window they are
# given; a model that learns to predict them begins songs in their middle.
CONTEXT = 100
# Share of these excerpts whose context loses its position codes: an encoder writes none of them.
POSITION_DROPOUT = 0.25
# In batches with changes: shares of the excerpts in which another piece follows, and in which the
# same piece goes on under another caption. In the others nothing changes.
FOLLOWED, REWORDED = 0.45, 0.1
SAME_TEMPO = 0.5  # share of the pieces that follow in the same tempo
# The weight of the first frame of the piece that follows. With that of an opening, the model learns
# that the tempo may jump at any frame.
ENTRY_WEIGHT = 8.0
# In these batches the codebooks of drums and bass, which hold the metronome, weigh this much more:
# their codes are nearly certain, and the tempo is lost where one is wrong.
METRONOME_WEIGHT = 5.0


@dataclass(frozen=True)
class TrainingBatch:
    """From frame `change` on the excerpts have their `later` captions."""

    excerpts: Tensor  # int64 [songs, codebooks, frames]
    weights: Tensor  # float32 [songs, codebooks, frames], of the loss
    captions: list[str]
    later: list[str]
    change: int

    def to(self, device: torch.device) -> TrainingBatch:
        return replace(self, excerpts=self.excerpts.to(device), weights=self.weights.to(device))


def draw_batch(
    codes: Tensor,
    numbers: range,
    songs: int,
    frames: int,
    rng: Random,
    bar_weight: float,
    changes: bool = False,
) -> TrainingBatch:
    """Draws among the songs with these numbers from `codes` [songs, codebooks, frames] of all."""
    change = rng.randint(frames // 3, 2 * frames // 3) if changes else frames
    drawn = [_draw_excerpt(codes, numbers, frames, change, rng, bar_weight) for _ in range(songs)]
    excerpts, weighed, captions, later = zip(*drawn, strict=True)
    metronome = METRONOME_WEIGHT if changes else 1.0
    of_codebooks = torch.tensor([metronome if part in POSITIONED else 1.0 for part in PARTS])
    weights = torch.stack(weighed)[:, None] * of_codebooks[:, None]
    return TrainingBatch(torch.stack(excerpts), weights, [*captions], [*later], change)


def _draw_excerpt(
    codes: Tensor, numbers: range, frames: int, change: int, rng: Random, bar_weight: float
) -> tuple[Tensor, Tensor, str, str]:
    number = rng.choice(numbers)
    start = 0 if rng.random() < FROM_START else rng.randint(0, codes.shape[-1] - frames)
    piece = data.song(number)
    caption = later = add_unknown_words(write_caption(piece, rng), rng)
    excerpt = codes[number, :, start : start + frames].long()
    if start and rng.random() < POSITION_DROPOUT:
        excerpt[:, :CONTEXT] = drop_positions(excerpt[:, :CONTEXT], data.FIRST_POSITION_CODE)
    weights = loss_weights(piece, start, frames, bar_weight, context=CONTEXT if start else 0)
    if change == frames:
        return excerpt, weights, caption, later
    fate = rng.random()
    if fate < FOLLOWED:
        number, named = _draw_next(piece, numbers, rng)
        next_piece = data.song(number)
        beat = -(-(start + change) // piece.beat)  # the next one
        entry, at = beat * piece.beat - start, beat % (BEATS * PHRASE) * next_piece.beat
        rest = frames - entry
        excerpt[:, entry:] = codes[number, :, at : at + rest]
        weights[entry:] = loss_weights(next_piece, at, rest, bar_weight, ENTRY_WEIGHT)
        later = add_unknown_words(write_caption(next_piece, rng, named), rng)
    elif fate < FOLLOWED + REWORDED:
        later = add_unknown_words(write_caption(piece, rng), rng)
    return excerpt, weights, caption, later


def _draw_next(piece: Piece, numbers: range, rng: Random) -> tuple[int, list[str]]:
    """The number of a song that can follow the piece, and the traits that its caption must name.

    Tempo and mode change only where the caption says so. A model that sees them change without a
    reason changes them at random.
    """
    same = rng.random() < SAME_TEMPO
    while True:
        number = rng.choice(numbers)
        other = data.song(number)
        if same != (other.step == piece.step) or other.step != next_step(piece, other.tempo):
            continue
        named = [] if same else [tempo_quality(other)]
        if other.mode == piece.mode:
            return number, named
        if other.mode in qualities(other):
            return number, [*named, other.mode]


def next_step(piece: Piece, tempo: Tempo) -> int:
    """The step in which music of this tempo follows the piece: the same, half or double if any is
    of this tempo."""
    steps = FRAMES_PER_STEP[tempo]
    return next((s for s in (piece.step, 2 * piece.step, piece.step // 2) if s in steps), steps[0])


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
