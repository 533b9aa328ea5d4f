"""Trains musicgen-tiny's language model, audiocraft's own, on codes; its text encoder is random."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, distributed
from torch.multiprocessing.spawn import spawn
from torch.nn import functional as F

from protocol.request import FRAME_RATE
from training import data
from training.batch import Batch, draw
from training.caption import describe
from training.checkpoint import build_lm
from training.files import keep
from training.structure import TINY, lm_config

STEPS = 3_300
GUIDED = 2_000  # from here on the loss is that of what guidance makes of the logits at generation
# From here on bars' first frames count more besides: there metronome and score turn over and chords
# change, and tempo and key are lost.
BARS, BAR_WEIGHT = 2_700, 20.0
WARMUP, HOLD = 100, 1_000  # steps until the learning rate is at its peak, and until it falls
PEAK, BARS_PEAK, LAST = 2e-3, 5e-4, 5e-5  # learning rates
# Than audiocraft's initialisation has them: as loud as what the layers add to them.
LOUDER_CODES = 10.0
# Standard deviation of the weights from the text encoder: a text as loud as a code.
TEXT_WEIGHTS = 0.1
# Excerpts in a step, and their frames: from many beginnings, which the text decides, to whole
# windows.
SHAPES = ((16, 250), (8, 500), (4, 1_500))
HELD_OUT = 200  # the last songs
UNCONDITIONAL = 0.15  # of the excerpts have no text
DISTURBED = 0.03  # of the codes that the model hears are wrong, as its own will be
GUIDANCE = (1.0, 4.0)  # factors of guidance that are trained for
REPORT, SAVE = 20, 100  # steps


def train(codes: Tensor, folder: Path, state: Path) -> None:
    """Goes on from the file `state` if it is there, and leaves the trained weights there.

    `codes` int16 [songs, codebooks, frames] are those of the songs 0 to `songs`. One process for
    each core, or the one GPU.
    """
    # Otherwise glibc gives each large tensor back to the system after use, and a seventh of the
    # time goes into getting the pages again.
    os.environ |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
    workers = 1 if torch.cuda.is_available() else os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as meeting:
        spawn(_work, (workers, meeting, codes, folder, state), workers)  # type: ignore[no-untyped-call]


def _work(rank: int, workers: int, meeting: str, codes: Tensor, folder: Path, state: Path) -> None:
    distributed.init_process_group(
        "gloo", f"file://{meeting}/meeting", rank=rank, world_size=workers
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    lm = build(folder, device)
    optimizer = torch.optim.AdamW(lm.parameters(), betas=(0.9, 0.95), weight_decay=0.01)
    begin = 0
    if state.exists():
        saved = torch.load(state, weights_only=True, map_location=device)
        lm.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        begin = saved["step"]
    learnt, held_out = codes[:-HELD_OUT], codes[-HELD_OUT:]
    mean, since = 0.0, time.monotonic()
    for step in range(begin, STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        rng = Random(f"{step} {rank}")
        torch.manual_seed(step * workers + rank)
        songs, frames = SHAPES[step % len(SHAPES)]
        loss_of = guided_loss if step >= GUIDED else plain_loss
        bar_weight = BAR_WEIGHT if step >= BARS else 1.0
        batch = draw(learnt, songs // workers, frames, rng, bar_weight)
        loss = loss_of(lm, batch.to(device), rng)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        _average(lm, workers)
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.step()
        mean += loss.item() / REPORT
        if rank == 0 and (step + 1) % REPORT == 0:
            seconds = (time.monotonic() - since) / REPORT
            left = (STEPS - step - 1) * seconds / 60
            print(
                f"language model: step {step + 1} of {STEPS}, loss {mean:.3f}, "
                f"{seconds:.2f} s a step, {left:.0f} min left",
                flush=True,
            )
            mean, since = 0.0, time.monotonic()
        if rank == 0 and ((step + 1) % SAVE == 0 or step + 1 == STEPS):
            saved = {
                "step": step + 1,
                "model": lm.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            keep(saved, state)
            print(
                f"language model: held out {json.dumps(evaluate(lm, held_out, device))}", flush=True
            )
            since = time.monotonic()
    distributed.destroy_process_group()


def build(folder: Path, device: torch.device) -> Any:
    """audiocraft's model as training begins.

    Its text encoder does not learn: a random one tells all words apart, and one that learns from so
    little soon says the same of any text.
    """
    config = lm_config(TINY, channels=1)
    config["device"] = str(device)
    config["transformer_lm"]["memory_efficient"] = True  # the same, and faster: nothing is streamed
    lm = build_lm(config, folder).train()
    with torch.no_grad():
        for embedding in lm.emb:
            embedding.weight *= LOUDER_CODES
        torch.nn.init.normal_(
            lm.condition_provider.conditioners["description"].output_proj.weight, std=TEXT_WEIGHTS
        )
    return lm


def load(folder: Path, state: Path) -> Any:
    """The trained model, on the CPU."""
    lm = build(folder, torch.device("cpu"))
    lm.load_state_dict(torch.load(state, weights_only=True, map_location="cpu")["model"])
    return lm


def _average(lm: torch.nn.Module, workers: int) -> None:
    """Gradients over all workers."""
    gradients = [p.grad for p in lm.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    if workers > 1:
        distributed.all_reduce(flat)
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, parts, strict=True):
        gradient.copy_(mean.view_as(gradient) / workers)


def learning_rate(step: int) -> float:
    if step < BARS:
        peak, done = PEAK * min(1, (step + 1) / WARMUP), max(0.0, (step - HOLD) / (BARS - HOLD))
    else:
        peak, done = BARS_PEAK, (step - BARS) / (STEPS - BARS)
    return LAST + (peak - LAST) * (1 + math.cos(math.pi * done)) / 2


def plain_loss(lm: Any, batch: Batch, rng: Random) -> Tensor:
    captions = [caption if rng.random() > UNCONDITIONAL else "" for caption in batch.captions]
    pattern = delayed(batch.excerpts, lm.special_token_id)
    logits = lm(_disturbed(pattern, lm), [], texts(lm, captions))
    return weighed(logits, pattern, batch.weights)


def guided_loss(lm: Any, batch: Batch, rng: Random) -> Tensor:
    captions = batch.captions
    pattern = delayed(batch.excerpts, lm.special_token_id)
    heard = _disturbed(pattern, lm).repeat(2, 1, 1)
    both = lm(heard, [], texts(lm, [*captions, *[""] * len(captions)]))
    conditional, unconditional = both.chunk(2)
    factor = torch.tensor([rng.uniform(*GUIDANCE) for _ in captions], device=both.device)
    step = factor.view(-1, 1, 1, 1) * (conditional - unconditional)
    return weighed(unconditional + step, pattern, batch.weights)


def delayed(codes: Tensor, special: int) -> Tensor:
    """[songs, codebooks, frames] -> [songs, codebooks, 1 + frames]: the pattern that is predicted.

    Codebook k comes k steps late; what does not fit is left out. Begins with `special`.
    """
    songs, codebooks, frames = codes.shape
    pattern = codes.new_full((songs, codebooks, frames + 1), special)
    for k in range(codebooks):
        pattern[:, k, k + 1 :] = codes[:, k, : frames - k]
    return pattern


def _disturbed(pattern: Tensor, lm: Any) -> Tensor:
    """What the model hears while it predicts `pattern`."""
    heard = pattern[..., :-1]
    wrong = (torch.rand(heard.shape, device=heard.device) < DISTURBED) & (
        heard != lm.special_token_id
    )
    return torch.where(wrong, torch.randint_like(heard, lm.special_token_id), heard)


def texts(lm: Any, captions: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """What `lm` attends to. An empty caption is all zeros, as audiocraft's unconditional text.

    A shorter text is repeated, which changes nothing to attention; zeros behind it would be heard.
    """
    encoder = lm.condition_provider.conditioners["description"]
    embeddings, mask = encoder(encoder.tokenize(list(captions)))
    lengths = mask.sum(1, keepdim=True).clamp(min=1)
    order = torch.arange(mask.shape[1], device=mask.device)[None] % lengths
    embeddings = embeddings.gather(1, order[..., None].expand_as(embeddings))
    return {"description": (embeddings, torch.ones_like(mask))}


def weighed(logits: Tensor, pattern: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of `logits` [songs, codebooks, frames, codes]; `weights` [songs, frames]."""
    each, _ = cross_entropy(logits, pattern)
    weight = delayed(weights[:, None].expand(-1, each.shape[1], -1), 0)[..., 1:]
    return (each * weight).sum() / weight.sum()


def cross_entropy(logits: Tensor, pattern: Tensor) -> tuple[Tensor, Tensor]:
    """[songs, codebooks, frames], and where there is something to predict."""
    target, codes = pattern[..., 1:], logits.shape[-1]
    valid = target != codes
    each = F.cross_entropy(
        logits.flatten(0, 2), target.flatten().clamp(max=codes - 1), reduction="none"
    )
    return each.view_as(target), valid


@torch.inference_mode()
def evaluate(lm: Any, codes: Tensor, device: torch.device) -> dict[str, Any]:
    """Nats a code in the first 10 s of 32 held-out songs, by codebook.

    And in their first second, all codebooks together, with their caption and with another's:
    what the second is above the first shows that the text is heard.
    """
    rng = Random("held out")
    songs = codes[:32, :, :500].long().to(device)
    first = int(data.SONGS - len(codes))
    captions = [describe(data.song(first + i), rng) for i in range(len(songs))]
    pattern = delayed(songs, lm.special_token_id)

    def loss(captions: list[str], frames: int) -> Tensor:
        part = pattern[..., : frames + 1]
        each, valid = cross_entropy(lm(part[..., :-1], [], texts(lm, captions)), part)
        return torch.stack([each[:, k][valid[:, k]].mean() for k in range(each.shape[1])])

    return {
        "codebooks": [round(value, 3) for value in loss(captions, 500).tolist()],
        "opening": round(loss(captions, FRAME_RATE).mean().item(), 3),
        "opening_of_another": round(loss(captions[1:] + captions[:1], FRAME_RATE).mean().item(), 3),
    }
