"""A checkpoint on its device, with as many slots as there is room for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from musicgen_engine.core import checkpoint
from musicgen_engine.core.checkpoint import MAX_TOKENS, Checkpoint
from musicgen_engine.model.streaming_codec import Codec
from musicgen_engine.model.transformer import Decoder
from musicgen_engine.core.memory import slots_that_fit
from musicgen_engine.model.sampler import Sampler
from musicgen_engine.model.delay_pattern import Layout
from protocol.errors import EngineUnavailable
from musicgen_engine.config import Placement
from protocol.request import Codes, Samples
from musicgen_engine.hub import revision

SMALL = 20_000_000  # parameters; threads would wait for one another longer than they work

log = logging.getLogger("engine")


@dataclass(frozen=True)
class Model:
    """`describe`: prompt → what the decoder is conditioned on, float32 [tokens, dim].
    `encode`: audio and its sample rate → codes.
    """

    revision: str

    device: torch.device
    precision: torch.dtype
    slots: int
    layout: Layout
    describe: Callable[[str], Tensor]
    encode: Callable[[Samples, int], Codes]
    decoder: Decoder
    sampler: Sampler
    codec: Codec

    @classmethod
    def load(cls, folder: Path, placement: Placement) -> Model:
        """Raises EngineUnavailable: why it cannot be played here."""
        device = _device(placement.device)
        precision = _precision(placement.precision, device)
        try:
            parts = checkpoint.load(folder, device)
            return cls._placed(revision(folder), parts, device, precision, placement)
        except checkpoint.Unsupported as error:
            raise EngineUnavailable(str(error)) from error

    @classmethod
    def _placed(
        cls,
        revision: str,
        parts: Checkpoint,
        device: torch.device,
        precision: torch.dtype,
        placement: Placement,
    ) -> Model:
        shape, layout = parts.weights.shape, parts.layout
        slots = slots_that_fit(
            placement.memory,
            device,
            weights=shape.parameters * precision.itemsize,
            slot=shape.cached(layout.columns, MAX_TOKENS) * precision.itemsize,
        )
        if shape.parameters < SMALL:
            torch.set_num_threads(1)
        decoder = Decoder(parts.weights, slots, layout.columns, device, precision, placement.packed)
        sampler = Sampler(slots, layout.codebooks, shape.card, device)
        log.info("%d slots on %s in %s", slots, device, precision)
        return cls(
            revision, device, precision, slots, layout,
            parts.describe, parts.encode, decoder, sampler, parts.codec,
        )  # fmt: skip


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise EngineUnavailable(f"device: {name} is not there ({there} GPUs are); name another")
    return device


def _precision(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    precision: torch.dtype = getattr(torch, name)
    return precision
