"""The last stage of musicgen-tiny's training: captions that change in the middle of an excerpt.

In half of the excerpts another song enters and the caption becomes the one of that song. In the
others the music goes on; from these the model also learns to predict what it predicted before the
stage, so that it forgets nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from protocol.constants import FRAME_RATE
from training import data, language_model
from training.batch import (
    CONTEXT,
    Excerpt,
    TrainingBatch,
    draw_caption,
    draw_excerpt,
    loss_weights,
)
from training.caption import qualities, tempo_quality
from training.language_model import (
    BAR_WEIGHT,
    HELD_OUT,
    corrupted,
    cross_entropy,
    delayed,
    draw_guidance,
    encode_texts,
    guided,
    weighted_loss,
    weighted_mean,
)
from training.music import BEATS, FRAMES_PER_STEP, PHRASE, Piece, Tempo
from training.quantizer import PARTS, POSITIONED
from training.trainer import with_trained_weights

SONGS = 2_000  # the first ones; so short a stage does not need all
# From the first of these steps on, the first frame of a song that follows weighs more; from the
# second one on, openings do.
FIRST_FROM, OPENINGS_FROM, STEPS = 550, 1_100, 1_900
# The learning rate, and the steps in which it rises and falls; then that of the openings, which
# falls.
RATE, WARMUP, DECAY = 5e-4, 30, 400
OPENINGS_RATE = 3e-4
AVERAGED = 450  # last steps, whose mean keeps the key better than the last one's weights
# Shares of the excerpts in which another song follows, and in which only the words change.
FOLLOWED, REWORDED = 0.5, 0.15
SAME_TEMPO = 0.5  # share of the songs that follow in the same tempo
FEWER_LEADS = 0.5  # share of the drawn songs with a lead that are drawn again: few have none
# Share of the songs without drums that are drawn again where drums change their tempo, which is
# rare.
KEPT_DRUMS = 0.7
# The share of the songs that follow which pass a beat without entering. If all entered on the first
# beat, a model that misses it would never change again.
WAITED = 0.5
# Of the first frame of a song that follows; the weight decays over the next frames. With that of an
# opening, the model learns that the tempo may jump at any frame.
ENTRY_WEIGHT = 16.0
FIRST_WEIGHT = 100.0  # of that frame alone, where a new tempo can only begin
# The codebooks of drums and bass, which hold the metronome, weigh this much more: their codes are
# nearly certain, and the tempo is lost where one is wrong. In openings all codebooks do.
METRONOME_WEIGHT = 5.0
OPENING = 50  # frames
CODEBOOK_WEIGHTS = torch.tensor([METRONOME_WEIGHT if part in POSITIONED else 1.0 for part in PARTS])
# Excerpts in a batch, and their frames; as before, but fewer whole windows, which cost most.
BATCH_SHAPES = (*((16, 250), (8, 500)) * 4, (16, 250), (4, 1_500))
TEACHING = 2.0  # weight of the difference from the predictions before the stage


@dataclass(frozen=True)
class ChangingBatch(TrainingBatch):
    """From frame `change` on the excerpts have their `later` captions."""

    later: list[str]
    change: int
    steady: list[int]  # the excerpts in which no other song follows


@dataclass(frozen=True)
class ChangesRecipe:
    """`codes` int16 [songs, codebooks, frames] hold song 0, song 1 and so on; `folder` has the text
    encoder, and the file `start` is of the training before the stage."""

    codes: Tensor
    folder: Path
    start: Path
    steps: int = STEPS
    averaged: int = AVERAGED

    def build(self, device: torch.device) -> Any:
        return build(self.folder, self.start, device)

    def learning_rate(self, step: int) -> float:
        if step < OPENINGS_FROM:
            return RATE * min(1, (step + 1) / WARMUP, (OPENINGS_FROM - step) / DECAY)
        return OPENINGS_RATE * (self.steps - step) / (self.steps - OPENINGS_FROM)

    def loss(self, lm: Any, step: int, workers: int, rng: Random, device: torch.device) -> Tensor:
        songs, frames = BATCH_SHAPES[step % len(BATCH_SHAPES)]
        batch = draw_batch(self.codes, range(SONGS), songs // workers, frames, rng, step)
        teacher = load_teacher(self.folder, self.start, device)
        return loss(lm, teacher, batch.to(device), rng)

    def evaluate(self, lm: Any, device: torch.device) -> dict[str, Any]:
        return language_model.evaluate(lm, self.codes[-HELD_OUT:], device) | evaluate(
            lm, self.codes, device
        )


def build(folder: Path, start: Path, device: torch.device) -> Any:
    return with_trained_weights(language_model.build(folder, device), start)


@cache
def load_teacher(folder: Path, start: Path, device: torch.device) -> Any:
    return build(folder, start, device).requires_grad_(False)


def draw_batch(
    codes: Tensor,
    numbers: range,
    songs: int,
    frames: int,
    rng: Random,
    step: int = STEPS,
) -> ChangingBatch:
    """Draws among the songs with these numbers from `codes` [songs, codebooks, frames] of all, with
    the weights of this step."""
    first_weight = FIRST_WEIGHT if step >= FIRST_FROM else ENTRY_WEIGHT
    change = rng.randint(frames // 3, 2 * frames // 3)
    excerpts = [
        draw_excerpt(codes, draw_number(numbers, rng), frames, rng, BAR_WEIGHT)
        for _ in range(songs)
    ]
    later, steady = [], []
    for index, excerpt in enumerate(excerpts):
        piece, fate = data.song(excerpt.number), rng.random()
        if fate < FOLLOWED:
            number, named = draw_next(piece, numbers, rng)
            beat = draw_entry(excerpt, change, rng)
            _enter(excerpt, beat, codes[number], data.song(number), first_weight)
            later.append(draw_caption(data.song(number), rng, named))
            continue
        steady.append(index)
        reworded = fate < FOLLOWED + REWORDED
        later.append(draw_caption(piece, rng) if reworded else excerpt.caption)
    frame_weights = torch.stack([excerpt.weights for excerpt in excerpts])[:, None]
    weights = frame_weights * CODEBOOK_WEIGHTS[:, None]
    if step >= OPENINGS_FROM:
        opens = torch.tensor([excerpt.start == 0 for excerpt in excerpts])
        weights[opens, :, :OPENING] = frame_weights[opens, :, :OPENING] * METRONOME_WEIGHT
    return ChangingBatch(
        torch.stack([excerpt.codes for excerpt in excerpts]),
        weights,
        [excerpt.caption for excerpt in excerpts],
        later,
        change,
        steady,
    )


def draw_entry(excerpt: Excerpt, change: int, rng: Random) -> int:
    """The number of a beat of the excerpt's song, the first after `change` or a later one."""
    beat = data.song(excerpt.number).beat
    entry, last = (
        -(-(excerpt.start + change) // beat),
        (excerpt.start + len(excerpt.weights)) // beat,
    )
    while entry < last and rng.random() < WAITED:
        entry += 1
    return entry


def _enter(excerpt: Excerpt, beat: int, codes: Tensor, piece: Piece, first_weight: float) -> None:
    """From this beat on the excerpt is the song with these codes [codebooks, frames], at the same
    beat of the phrase."""
    entry = beat * data.song(excerpt.number).beat - excerpt.start
    at, rest = beat % (BEATS * PHRASE) * piece.beat, len(excerpt.weights) - entry
    excerpt.codes[:, entry:] = codes[:, at : at + rest]
    excerpt.weights[entry:] = loss_weights(piece, at, rest, BAR_WEIGHT, ENTRY_WEIGHT)
    excerpt.weights[entry : entry + 1].clamp_(min=first_weight)


def draw_number(numbers: range, rng: Random) -> int:
    """The number of a song; half of them without a lead would be too few otherwise."""
    while True:
        number = rng.choice(numbers)
        if not data.song(number).leads or rng.random() >= FEWER_LEADS:
            return number


def draw_next(piece: Piece, numbers: range, rng: Random) -> tuple[int, list[str]]:
    """The number of a song that can follow the piece, and the traits that its caption must name.

    Tempo and mode change only where the caption says so. A model that sees them change without a
    reason changes them at random.
    """
    same = rng.random() < SAME_TEMPO
    while True:
        number = draw_number(numbers, rng)
        other = data.song(number)
        silenced = not same and piece.drums and not other.drums
        if silenced and rng.random() < KEPT_DRUMS:
            continue
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


def loss(lm: Any, teacher: Any, batch: ChangingBatch, rng: Random) -> Tensor:
    """The cross-entropy, and the divergence from the teacher's predictions of steady music."""
    nothing = [""] * len(batch.captions)
    pattern = delayed(batch.excerpts, lm.special_token_id)
    inputs = corrupted(pattern, lm).repeat(2, 1, 1)
    both = predict(lm, inputs, batch.captions + nothing, batch.later + nothing, batch.change)
    factors = draw_guidance(len(nothing), rng).to(both.device)
    logits = guided(both, factors)
    entropy = weighted_loss(logits, pattern, batch.weights)
    if not batch.steady:
        return entropy
    captions = [batch.captions[index] for index in batch.steady]
    rows = [*batch.steady, *(index + len(nothing) for index in batch.steady)]
    with torch.no_grad():
        texts = encode_texts(teacher, captions + [""] * len(captions))
        taught = guided(teacher(inputs[rows], [], texts), factors[batch.steady])
    divergence = F.kl_div(
        logits[batch.steady].log_softmax(-1),
        taught.log_softmax(-1),
        reduction="none",
        log_target=True,
    ).sum(-1)
    weights = CODEBOOK_WEIGHTS[:, None].repeat(len(captions), 1, batch.excerpts.shape[-1])
    weights[..., :CONTEXT] = 0  # a caption may have words that the teacher does not know
    return entropy + TEACHING * weighted_mean(divergence, weights.to(divergence.device))


def predict(
    lm: Any, inputs: Tensor, captions: Sequence[str], later: Sequence[str], change: int
) -> Tensor:
    """The logits; from position `change` on those under the `later` captions.

    Each position has the caption of its own frame, as in the engine: earlier ones keep theirs.
    """
    text, _ = encode_texts(lm, later)["description"]

    def attend(attention: Any, arguments: tuple[Tensor, ...], output: Any) -> Any:
        rest, _ = attention.forward(arguments[0][:, change:], text, text)
        return torch.cat([output[0][:, :change], rest], dim=1), None

    hooks = [layer.cross_attention.register_forward_hook(attend) for layer in lm.transformer.layers]
    try:
        logits: Tensor = lm(inputs, [], encode_texts(lm, captions))
    finally:
        for hook in hooks:
            hook.remove()
    return logits


@torch.inference_mode()
def evaluate(lm: Any, codes: Tensor, device: torch.device) -> dict[str, float]:
    """Cross-entropy of held-out songs in the first second after a change, in nats per code.

    `change_unheard`: the same under the captions before.
    """
    held_out = range(len(codes) - HELD_OUT, len(codes))
    batch = draw_batch(codes, held_out, 32, 250, Random("held out")).to(device)
    pattern = delayed(batch.excerpts, lm.special_token_id)

    def change_loss(later: list[str]) -> float:
        logits = predict(lm, pattern[..., :-1], batch.captions, later, batch.change)
        each, _ = cross_entropy(logits, pattern)
        second = each[..., batch.change : batch.change + FRAME_RATE]
        return round(second.mean().item(), 3)

    return {"change": change_loss(batch.later), "change_unheard": change_loss(batch.captions)}
