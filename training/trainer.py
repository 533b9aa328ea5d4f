"""Trains a language model by a recipe, on one GPU or in one process for each core."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any, Protocol

import torch
from torch import Tensor, distributed
from torch.multiprocessing.spawn import spawn
from torch.optim.swa_utils import AveragedModel

from training.checkpoint import save_atomically

REPORT_EVERY, SAVE_EVERY = 20, 100  # steps


class Recipe(Protocol):
    """All in which the training of one model differs from that of another; it can be pickled."""

    @property
    def steps(self) -> int: ...

    @property
    def averaged(self) -> int:
        """The trained weights are the mean of those after each of this many last steps."""

    def build(self, device: torch.device) -> Any:
        """The model before training."""

    def learning_rate(self, step: int) -> float: ...

    def loss(self, lm: Any, step: int, workers: int, rng: Random, device: torch.device) -> Tensor:
        """The loss of this worker's share of a batch."""

    def evaluate(self, lm: Any, device: torch.device) -> dict[str, Any]:
        """Measures on songs that are held out."""


def train(recipe: Recipe, state: Path) -> None:
    """Resumes from the file `state` if it exists, and saves the trained weights in it."""
    # Otherwise glibc returns each large tensor's pages to the system, which costs a seventh of the
    # time.
    os.environ |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
    workers = 1 if torch.cuda.is_available() else os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as rendezvous:
        address = f"file://{rendezvous}/group"
        spawn(_work, (workers, address, recipe, state), workers)  # type: ignore[no-untyped-call]


def load(recipe: Recipe, state: Path) -> Any:
    """The trained model, on the CPU."""
    return with_trained_weights(recipe.build(torch.device("cpu")), state)


def with_trained_weights(lm: Any, state: Path) -> Any:
    """This model after the training whose file is `state`."""
    averaged = AveragedModel(lm)
    averaged.load_state_dict(torch.load(state, weights_only=True, map_location="cpu")["averaged"])
    return averaged.module


def _work(rank: int, workers: int, address: str, recipe: Recipe, state: Path) -> None:
    distributed.init_process_group("gloo", address, rank=rank, world_size=workers)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    lm = recipe.build(device)
    averaged = AveragedModel(lm)
    optimizer = torch.optim.AdamW(lm.parameters(), betas=(0.9, 0.95), weight_decay=0.01)
    first_step = 0
    if state.exists():
        saved = torch.load(state, weights_only=True, map_location=device)
        lm.load_state_dict(saved["model"])
        averaged.load_state_dict(saved["averaged"])
        optimizer.load_state_dict(saved["optimizer"])
        first_step = saved["step"]
    mean, since = 0.0, time.monotonic()
    for step in range(first_step, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate(step)
        torch.manual_seed(step * workers + rank)
        loss = recipe.loss(lm, step, workers, Random(f"{step} {rank}"), device)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        _average_gradients(lm, workers)
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.step()
        if step >= recipe.steps - recipe.averaged:
            averaged.update_parameters(lm)
        mean += loss.item() / REPORT_EVERY
        if rank == 0 and (step + 1) % REPORT_EVERY == 0:
            seconds = (time.monotonic() - since) / REPORT_EVERY
            left = (recipe.steps - step - 1) * seconds / 60
            print(
                f"language model: step {step + 1} of {recipe.steps}, loss {mean:.3f}, "
                f"{seconds:.2f} s per step, {left:.0f} min left",
                flush=True,
            )
            mean, since = 0.0, time.monotonic()
        if rank == 0 and ((step + 1) % SAVE_EVERY == 0 or step + 1 == recipe.steps):
            saved = {
                "step": step + 1,
                "model": lm.state_dict(),
                "averaged": averaged.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            save_atomically(saved, state)
            print(f"language model: held out {json.dumps(recipe.evaluate(lm, device))}", flush=True)
            since = time.monotonic()
    distributed.destroy_process_group()


def _average_gradients(lm: torch.nn.Module, workers: int) -> None:
    """Averages the gradients over all workers."""
    gradients = [p.grad for p in lm.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    if workers > 1:
        distributed.all_reduce(flat)
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, parts, strict=True):
        gradient.copy_(mean.view_as(gradient) / workers)
