"""Trains the language model of musicgen-tiny, audiocraft's class, on the codes of the songs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from protocol.constants import FRAME_RATE
from training import data
from training.batch import TrainingBatch, draw_batch
from training.caption import write_caption
from training.checkpoint import build_lm
from training.structure import TINY, lm_config

STEPS = 3_300
GUIDED_FROM = 2_000  # from this step on the loss is that of the guided logits
# From this step on the first frame of each bar weighs more: position codes wrap around and chords
# change there, and a model trained without this loses tempo and key there.
BARS_FROM, BAR_WEIGHT = 2_700, 20.0
WARMUP, DECAY_FROM = 100, 1_000  # steps of the learning rate
PEAK_RATE, BARS_PEAK_RATE, FINAL_RATE = 2e-3, 5e-4, 5e-5
# On audiocraft's initialisation: makes the embeddings as large as the output of the layers.
EMBEDDING_SCALE = 10.0
# Standard deviation of the projection's weights: makes a text as large as a code.
TEXT_PROJECTION_STD = 0.1
# Excerpts in a batch, and their frames: from many beginnings, which depend on the text most, to
# whole windows.
BATCH_SHAPES = ((16, 250), (8, 500), (4, 1_500))
HELD_OUT = 200  # songs, the last ones
TEXT_DROPOUT = 0.15  # share of the excerpts without text
CODE_ERRORS = 0.03  # share of wrong input codes, because generated codes have errors too
GUIDANCE = (1.0, 4.0)  # range of the guidance factors in training


@dataclass(frozen=True)
class TinyRecipe:
    """`codes` int16 [songs, codebooks, frames] hold song 0, song 1 and so on; `folder` has the text
    encoder."""

    codes: Tensor
    folder: Path
    steps: int = STEPS
    averaged: int = 1

    def build(self, device: torch.device) -> Any:
        return build(self.folder, device)

    def learning_rate(self, step: int) -> float:
        return learning_rate(step)

    def loss(self, lm: Any, step: int, workers: int, rng: Random, device: torch.device) -> Tensor:
        songs, frames = BATCH_SHAPES[step % len(BATCH_SHAPES)]
        loss_of = guided_loss if step >= GUIDED_FROM else plain_loss
        bar_weight = BAR_WEIGHT if step >= BARS_FROM else 1.0
        numbers = range(len(self.codes) - HELD_OUT)
        batch = draw_batch(self.codes, numbers, songs // workers, frames, rng, bar_weight)
        return loss_of(lm, batch.to(device), rng)

    def evaluate(self, lm: Any, device: torch.device) -> dict[str, Any]:
        return evaluate(lm, self.codes[-HELD_OUT:], device)


def build(folder: Path, device: torch.device) -> Any:
    """audiocraft's model before training.

    The text encoder stays random and is not trained: a random one separates all words, and one
    trained on so little data soon maps every text to the same output.
    """
    config = lm_config(TINY, channels=1)
    config["device"] = str(device)
    config["transformer_lm"]["memory_efficient"] = True  # faster, and the same without streaming
    lm = build_lm(config, folder).train()
    with torch.no_grad():
        for embedding in lm.emb:
            embedding.weight *= EMBEDDING_SCALE
        text = lm.condition_provider.conditioners["description"]
        torch.nn.init.normal_(text.output_proj.weight, std=TEXT_PROJECTION_STD)
    return lm


def learning_rate(step: int) -> float:
    if step < BARS_FROM:
        peak = PEAK_RATE * min(1, (step + 1) / WARMUP)
        done = max(0.0, (step - DECAY_FROM) / (BARS_FROM - DECAY_FROM))
    else:
        peak, done = BARS_PEAK_RATE, (step - BARS_FROM) / (STEPS - BARS_FROM)
    return FINAL_RATE + (peak - FINAL_RATE) * (1 + math.cos(math.pi * done)) / 2


def plain_loss(lm: Any, batch: TrainingBatch, rng: Random) -> Tensor:
    captions = [caption if rng.random() > TEXT_DROPOUT else "" for caption in batch.captions]
    pattern = delayed(batch.excerpts, lm.special_token_id)
    logits = lm(corrupted(pattern, lm), [], encode_texts(lm, captions))
    return weighted_loss(logits, pattern, batch.weights)


def guided_loss(lm: Any, batch: TrainingBatch, rng: Random) -> Tensor:
    captions = batch.captions
    pattern = delayed(batch.excerpts, lm.special_token_id)
    inputs = corrupted(pattern, lm).repeat(2, 1, 1)
    both = lm(inputs, [], encode_texts(lm, [*captions, *[""] * len(captions)]))
    logits = guided(both, draw_guidance(len(captions), rng).to(both.device))
    return weighted_loss(logits, pattern, batch.weights)


def draw_guidance(songs: int, rng: Random) -> Tensor:
    return torch.tensor([rng.uniform(*GUIDANCE) for _ in range(songs)])


def guided(both: Tensor, factors: Tensor) -> Tensor:
    """The logits after guidance by `factors` [songs], from those with text, then those without."""
    conditional, unconditional = both.chunk(2)
    return unconditional + factors.view(-1, 1, 1, 1) * (conditional - unconditional)


def delayed(codes: Tensor, special: int) -> Tensor:
    """The delay pattern: [songs, codebooks, frames] -> [songs, codebooks, 1 + frames].

    It starts with `special` and delays codebook k by k steps; codes beyond the end are cut off.
    """
    songs, codebooks, frames = codes.shape
    pattern = codes.new_full((songs, codebooks, frames + 1), special)
    for k in range(codebooks):
        pattern[:, k, k + 1 :] = codes[:, k, : frames - k]
    return pattern


def corrupted(pattern: Tensor, lm: Any) -> Tensor:
    """The model's input for predicting `pattern`, with some wrong codes."""
    codes = pattern[..., :-1]
    wrong = (torch.rand(codes.shape, device=codes.device) < CODE_ERRORS) & (
        codes != lm.special_token_id
    )
    return torch.where(wrong, torch.randint_like(codes, lm.special_token_id), codes)


def encode_texts(lm: Any, captions: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """The conditioning of `lm`. An empty caption is all zeros, as audiocraft's unconditional text.

    A shorter text is repeated to the longest one's length, because attention would see padding.
    """
    encoder = lm.condition_provider.conditioners["description"]
    embeddings, mask = encoder(encoder.tokenize(list(captions)))
    lengths = mask.sum(1, keepdim=True).clamp(min=1)
    order = torch.arange(mask.shape[1], device=mask.device)[None] % lengths
    embeddings = embeddings.gather(1, order[..., None].expand_as(embeddings))
    return {"description": (embeddings, torch.ones_like(mask))}


def weighted_loss(logits: Tensor, pattern: Tensor, weights: Tensor) -> Tensor:
    """Mean cross-entropy of `logits` [songs, codebooks, frames, vocab_size].

    `weights` [songs, codebooks, frames] are delayed as the codes are.
    """
    each, _ = cross_entropy(logits, pattern)
    return weighted_mean(each, weights)


def weighted_mean(each: Tensor, weights: Tensor) -> Tensor:
    weight = delayed(weights, 0)[..., 1:]
    return (each * weight).sum() / weight.sum()


def cross_entropy(logits: Tensor, pattern: Tensor) -> tuple[Tensor, Tensor]:
    """[songs, codebooks, frames], and a mask of the positions that hold a code."""
    target, vocab_size = pattern[..., 1:], logits.shape[-1]
    valid = target != vocab_size
    each = F.cross_entropy(
        logits.flatten(0, 2), target.flatten().clamp(max=vocab_size - 1), reduction="none"
    )
    return each.view_as(target), valid


@torch.inference_mode()
def evaluate(lm: Any, codes: Tensor, device: torch.device) -> dict[str, Any]:
    """Cross-entropy of held-out songs, in nats per code.

    `codebooks`: in the first 10 s, by codebook. `opening`: in the first second, all codebooks.
    `opening_of_another`: the same with another song's caption; a higher value shows that the model
    follows the text.
    """
    rng = Random("held out")
    songs = codes[:32, :, :500].long().to(device)
    first = int(data.SONGS - len(codes))
    captions = [write_caption(data.song(first + i), rng) for i in range(len(songs))]
    pattern = delayed(songs, lm.special_token_id)

    def loss(captions: list[str], frames: int) -> Tensor:
        part = pattern[..., : frames + 1]
        each, valid = cross_entropy(lm(part[..., :-1], [], encode_texts(lm, captions)), part)
        return torch.stack([each[:, k][valid[:, k]].mean() for k in range(each.shape[1])])

    return {
        "codebooks": [round(value, 3) for value in loss(captions, 500).tolist()],
        "opening": round(loss(captions, FRAME_RATE).mean().item(), 3),
        "opening_of_another": round(loss(captions[1:] + captions[:1], FRAME_RATE).mean().item(), 3),
    }
