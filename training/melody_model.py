"""Trains the language model of musicgen-tiny-melody, from the weights of musicgen-tiny.

The chroma of the melody stand before the codes, a column for each frame of a window. A new first
layer reads them: its heads begin as pointers to the column of the next code and to columns near it.
All else begins as musicgen-tiny.
"""

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

from protocol.constants import FRAME_RATE, PITCH_CLASSES
from training import melody
from training.batch import POSITION_DROPOUT, loss_weights
from training.caption import add_unknown_words, write_caption
from training.checkpoint import LM, build_lm
from training.data import FIRST_POSITION_CODE
from training.language_model import corrupted, cross_entropy, delayed, encode_texts, weighted_loss
from training.music import PHRASE
from training.quantizer import drop_positions
from training.structure import TINY, TINY_MELODY, lm_config

STEPS = 400
WARMUP, DECAY_FROM, DECAY_TO = 50, 200, 500  # steps of the learning rate
PEAK_RATE, FINAL_RATE = 1e-3, 3e-5
COLUMNS = 30 * FRAME_RATE + 1  # of chroma, which describe a window
# Excerpts in a batch, their frames, and columns of chroma. Most excerpts have only the columns of
# their frames and the next ones, at the distance from the codes that all columns would give them.
BATCH_SHAPES = (
    (16, 250, 290), (8, 500, 540), (16, 250, 290), (4, 400, COLUMNS), (16, 250, 290),
    (8, 500, 540), (16, 250, 290), (2, 1_500, COLUMNS),
)  # fmt: skip
HELD_OUT = 16  # songs, the last ones
OPENING_WEIGHT = 10.0  # of the first frame, which text and melody alone decide
FROM_START = 2 / 3  # share of the excerpts that begin with a phrase, as a song would
CONTEXT = 30  # frames of the others that weigh nothing
BAR_WEIGHT, CHANGE_WEIGHT = 5.0, 8.0  # of the frames where a bar begins, and where a note may
NEAR = 3  # frames from a change of the chroma
TEXT_DROPOUT, MELODY_DROPOUT, BOTH_DROPOUT = 0.08, 0.08, 0.08  # shares of the excerpts

POINTERS = (-8, -1, 1, 4, 8, 16)  # columns from that of the next code, one for each head
# Squared amplitudes of a pointer's frequencies: fast ones make it sharp.
SHARP, SLOW, SHARP_FREQUENCIES = 8.0, 2.0, 9


@dataclass(frozen=True)
class Batch:
    excerpts: Tensor  # int64 [songs, codebooks, frames]
    weights: Tensor  # float32 [songs, frames], of the loss
    captions: list[str]
    chroma: Tensor  # int64 [songs, columns]


def draw_batch(
    codes: Tensor, chroma: Tensor, songs: int, frames: int, columns: int, rng: Random
) -> Batch:
    """Draws from `codes` and `chroma`, which hold song 0, song 1 and so on."""
    batch: list[tuple[Tensor, Tensor, str, Tensor]] = []
    for number in (rng.randrange(len(codes)) for _ in range(songs)):
        piece = melody.song(number)
        latest = min(codes.shape[-1] - frames, chroma.shape[-1] - columns)
        opening = rng.random() < FROM_START
        phrase = PHRASE * piece.bar
        start = phrase * rng.randint(0, latest // phrase) if opening else rng.randint(1, latest)
        excerpt = codes[number, :, start : start + frames].long()
        heard = chroma[number, start : start + columns].long()
        if opening:
            weights = loss_weights(piece, 0, frames, BAR_WEIGHT, opening=OPENING_WEIGHT)
        else:
            weights = loss_weights(piece, start, frames, BAR_WEIGHT, context=CONTEXT)
            if rng.random() < POSITION_DROPOUT:
                excerpt[:, :CONTEXT] = drop_positions(excerpt[:, :CONTEXT], FIRST_POSITION_CODE)
        weights = torch.where(
            near_changes(heard[:frames]) & (weights > 0),
            weights.clamp(min=CHANGE_WEIGHT),
            weights,
        )
        caption = add_unknown_words(write_caption(piece, rng), rng)
        batch.append((excerpt, weights, caption, heard))
    excerpts, weighed, captions, heards = zip(*batch, strict=True)
    return Batch(torch.stack(excerpts), torch.stack(weighed), list(captions), torch.stack(heards))


def near_changes(chroma: Tensor) -> Tensor:
    """Whether the pitch class changes within `NEAR` frames: [frames]."""
    changes = F.pad((chroma[1:] != chroma[:-1]).float(), (1, 0))
    return F.max_pool1d(changes[None], 2 * NEAR + 1, 1, NEAR)[0] > 0


@dataclass(frozen=True)
class MelodyRecipe:
    """`start` is the folder of musicgen-tiny's checkpoint; `folder` has its text encoder."""

    start: Path
    folder: Path
    codebooks: Tensor
    codes: Tensor
    chroma: Tensor
    steps: int = STEPS
    averaged: int = 1

    def build(self, device: torch.device) -> Any:
        return build(self.start, self.folder, self.codebooks, device)

    def learning_rate(self, step: int) -> float:
        done = max(0.0, (step - DECAY_FROM) / (DECAY_TO - DECAY_FROM))
        rate = FINAL_RATE + (PEAK_RATE - FINAL_RATE) * (1 + math.cos(math.pi * done)) / 2
        return rate * min(1, (step + 1) / WARMUP)

    def loss(self, lm: Any, step: int, workers: int, rng: Random, device: torch.device) -> Tensor:
        songs, frames, columns = BATCH_SHAPES[step % len(BATCH_SHAPES)]
        codes, chroma = self.codes[:-HELD_OUT], self.chroma[:-HELD_OUT]
        batch = draw_batch(codes, chroma, songs // workers, frames, columns, rng)
        return batch_loss(lm, batch, rng, device)

    @torch.inference_mode()
    def evaluate(self, lm: Any, device: torch.device) -> dict[str, Any]:
        """Cross-entropy of the first 10 s by codebook, in nats per code: with the song's melody,
        and with another one."""
        frames, columns, rng = 500, 540, Random("held out")
        first = len(self.codes) - HELD_OUT
        codes = self.codes[first:, :, :frames].long().to(device)
        chroma = self.chroma[first:, :columns].long().to(device)
        captions = [write_caption(melody.song(first + i), rng) for i in range(HELD_OUT)]
        pattern = delayed(codes, lm.special_token_id)

        def loss(chroma: Tensor) -> list[float]:
            each, valid = cross_entropy(logits(lm, pattern[..., :-1], captions, chroma), pattern)
            return [round(each[:, k][valid[:, k]].mean().item(), 3) for k in range(each.shape[1])]

        return {"codebooks": loss(chroma), "another_melody": loss(chroma.roll(1, 0))}


def build(start: Path, folder: Path, codebooks: Tensor, device: torch.device) -> Any:
    """audiocraft's model, with musicgen-tiny's weights where it has them.

    `melody` is the projection of the chroma, which audiocraft would keep beside a separator.
    """
    config = lm_config(TINY_MELODY, channels=1)
    config["device"] = str(device)
    config["transformer_lm"]["memory_efficient"] = True  # faster, and the same without streaming
    lm = build_lm(config, folder).train()
    lm.melody = torch.nn.Linear(PITCH_CLASSES, TINY_MELODY.dim, device=device)
    torch.nn.init.normal_(lm.melody.weight)
    state = torch.load(start / LM, weights_only=True, map_location=device)["best_state"]
    lm.load_state_dict(_grown(state, codebooks.to(device)), strict=False)
    _point_to_columns(lm.transformer.layers[0], lm.transformer.rope.frequencies)
    return lm


def _grown(state: dict[str, Tensor], codebooks: Tensor) -> dict[str, Tensor]:
    """musicgen-tiny's weights under the names and in the shapes of the larger model.

    A new code begins with the weights of the code that is nearest to it.
    """
    old = TINY.vocab_size
    grown = {}
    for name, weight in state.items():
        if name.startswith(("emb.", "linears.")):
            codebook = codebooks[int(name.split(".")[1])]
            nearest = torch.cdist(codebook[old:], codebook[:old]).argmin(1)
            weight = torch.cat([weight[:old], weight[nearest], weight[old:]])
        elif name.startswith("transformer.layers."):
            *before, layer, after = name.split(".", 3)
            name = ".".join([*before, str(int(layer) + 1), after])
        grown[name] = weight.float()
    return grown


@torch.no_grad()
def _point_to_columns(layer: Any, frequencies: Tensor) -> None:
    """Each head attends to one column, and the rest of the layer does nothing yet.

    One number of the layer's input becomes constant; queries and keys are made of it, and rotary
    positions turn them so that they agree at one distance.
    """
    layer.norm1.weight[0], layer.norm1.bias[0] = 0.0, 1.0
    amplitudes = torch.full_like(frequencies, SLOW)
    amplitudes[:SHARP_FREQUENCIES] = SHARP
    amplitudes = amplitudes.sqrt()
    distances = torch.tensor([COLUMNS + 1 - pointer for pointer in POINTERS]).to(frequencies)
    angles = -distances[:, None] * frequencies
    queries = torch.stack([angles.cos(), angles.sin()], -1) * amplitudes[:, None]
    keys = torch.stack([amplitudes, torch.zeros_like(amplitudes)], -1).expand_as(queries)
    qkv = layer.self_attn.in_proj_weight
    dim = qkv.shape[1]
    qkv[: 2 * dim] *= 0.1
    qkv[:dim, 0] = queries.flatten()
    qkv[dim : 2 * dim, 0] = keys.flatten()
    for output in (layer.cross_attention.out_proj, layer.linear2):
        output.weight.zero_()


def logits(lm: Any, inputs: Tensor, captions: Sequence[str], chroma: Tensor) -> Tensor:
    """[songs, codebooks, steps, vocab_size] for `inputs` [songs, codebooks, steps].

    As audiocraft's forward, but the first `chroma` [songs, columns] of a window can stand for all:
    the codes take the positions that they have behind all columns.
    """
    text, _ = encode_texts(lm, captions)["description"]
    prefix = F.linear(F.one_hot(chroma, PITCH_CLASSES).float(), lm.melody.weight, lm.melody.bias)
    codes = sum(embedding(inputs[:, k]) for k, embedding in enumerate(lm.emb))
    columns, steps = chroma.shape[1], inputs.shape[-1]
    positions = torch.cat([torch.arange(columns), COLUMNS + torch.arange(steps)])
    rope = lm.transformer.rope
    angles = torch.outer(positions.to(rope.frequencies), rope.frequencies)
    rope.rotation = torch.polar(torch.ones_like(angles), angles)
    hidden = lm.transformer(torch.cat([prefix, codes], 1), cross_attention_src=text)
    hidden = lm.out_norm(hidden[:, columns:])
    return torch.stack([linear(hidden) for linear in lm.linears], 1)


def batch_loss(lm: Any, batch: Batch, rng: Random, device: torch.device) -> Tensor:
    captions, chroma = list(batch.captions), batch.chroma.to(device)
    for song in range(len(captions)):
        draw = rng.random()
        if draw < TEXT_DROPOUT + BOTH_DROPOUT:
            captions[song] = ""
        if TEXT_DROPOUT <= draw < TEXT_DROPOUT + BOTH_DROPOUT + MELODY_DROPOUT:
            chroma[song] = 0
    pattern = delayed(batch.excerpts.to(device), lm.special_token_id)
    predicted = logits(lm, corrupted(pattern, lm), captions, chroma)
    weights = batch.weights.to(device)[:, None].expand_as(batch.excerpts)
    return weighted_loss(predicted, pattern, weights)
