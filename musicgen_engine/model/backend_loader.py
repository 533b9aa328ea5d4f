"""Chooses a backend and lets it prove itself against eager before it serves."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from musicgen_engine.model.backend import Backend, ModelInput
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.delay_pattern import Integers
from musicgen_engine.model.linear import PackedLinear, PlainLinear
from musicgen_engine.model.transformer import Transformer, Weights

PROOF_LAYERS = 2  # all layers have the same shapes: two show whether a backend computes right
PROOF_POSITIONS = 24
TOLERANCE = 1e-3  # of the largest logit: another order of adding up differs by far less

log = logging.getLogger("engine")


class NewBackend(Protocol):
    def __call__(
        self,
        weights: Weights,
        slots: int,
        positions: int,
        device: torch.device,
        precision: torch.dtype,
    ) -> Backend: ...


BACKENDS: dict[str, NewBackend] = {
    "eager": partial(Transformer, linear=PlainLinear),
    "packed": partial(Transformer, linear=PackedLinear),
}


@dataclass(frozen=True)
class LoadedBackend:
    """`fault` says why the backend that was asked for is not the one that serves."""

    backend: Backend
    name: str
    fault: str | None = None


def load_backend(
    name: str,
    weights: Weights,
    slots: int,
    positions: int,
    device: torch.device,
    precision: torch.dtype,
    backends: Mapping[str, NewBackend] = BACKENDS,
) -> LoadedBackend:
    """The backend `name`, or eager where that one fails or computes something else.

    "auto" is packed on a CPU in float32, else eager.
    """
    if name == "auto":
        fits = device.type == "cpu" and precision == torch.float32
        name = "packed" if fits else "eager"
    layers = iter(weights.layers)
    fault = None
    if name != "eager":
        first = list(islice(layers, PROOF_LAYERS))
        layers = chain(first, layers)
        few = replace(weights, config=replace(weights.config, layers=len(first)), layers=first)
        fault = find_fault(backends[name], few, device, precision)
        if fault:
            log.warning("the backend %s is put aside for eager: it %s", name, fault)
            fault, name = f"{name} {fault}", "eager"
    whole = replace(weights, layers=layers)
    return LoadedBackend(backends[name](whole, slots, positions, device, precision), name, fault)


def find_fault(
    candidate: NewBackend, weights: Weights, device: torch.device, precision: torch.dtype
) -> str | None:
    """The fault of a backend that differs from eager on random codes, or fails; else None."""
    try:
        expected, logits = (
            torch.cat(list(_trial(new(weights, 2, PROOF_POSITIONS, device, precision), weights)))
            for new in (BACKENDS["eager"], candidate)
        )
    except Exception as error:
        log.exception("the backend failed on its trial")
        return f"fails: {type(error).__name__}"
    difference = float((logits - expected).abs().max() / expected.abs().max())
    return None if difference <= TOLERANCE else f"differs from eager by {difference:.2g}"


def _trial(backend: Backend, weights: Weights) -> Iterator[Tensor]:
    """The logits of two sequences: one is prefilled in a chunk, both are decoded."""
    config, random = weights.config, np.random.default_rng(0)
    noise = torch.from_numpy(random.standard_normal((5, config.dim), np.float32))
    for slot in (0, 1):
        backend.set_conditioning(slot, Conditioning((noise * (slot + 1), None)))
    tokens = random.integers(0, config.vocab_size + 1, (config.codebooks, PROOF_POSITIONS))
    yield backend.forward(_one(tokens[:, :8], slot=0, start=0))
    for position in range(8, 16):
        pair = tokens[:, [position, position - 8]]
        slots, starts = np.array([0, 1]), np.array([position, position - 8])
        yield backend.forward(ModelInput(pair, slots, starts, np.array([1, 1])))


def _one(tokens: Integers, slot: int, start: int) -> ModelInput:
    numbers = (np.array([slot]), np.array([start]), np.array([tokens.shape[1]]))
    return ModelInput(tokens, *numbers)
