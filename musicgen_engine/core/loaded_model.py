"""A checkpoint on its device, with as many slots as there is memory for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from musicgen_engine.config import ModelConfig
from musicgen_engine.core import checkpoint
from musicgen_engine.core.checkpoint import MAX_TOKENS
from musicgen_engine.core.memory import slots_that_fit
from musicgen_engine.hub import revision
from musicgen_engine.model.backend import Backend
from musicgen_engine.model.backend_loader import load_backend
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.delay_pattern import DelayPattern
from musicgen_engine.model.sampler import Sampler
from musicgen_engine.model.streaming_codec import StreamingCodec
from protocol.constants import Codes, Samples
from protocol.errors import EngineUnavailable

SMALL = 20_000_000  # parameters; with fewer, threads wait for one another longer than they work

log = logging.getLogger("engine")


@dataclass(frozen=True)
class LoadedModel:
    """`fallback` says why `backend_name` is not the backend that was asked for."""

    revision: str
    device: torch.device
    precision: torch.dtype
    slots: int
    pattern: DelayPattern
    encode_text: Callable[[str], Conditioning]
    encode_audio: Callable[[Samples, int], Codes]  # of audio and its sample rate
    backend: Backend
    backend_name: str
    fallback: str | None
    sampler: Sampler
    codec: StreamingCodec

    @classmethod
    def load(cls, folder: Path, config: ModelConfig) -> LoadedModel:
        """Raises EngineUnavailable: it says why the model cannot be served here."""
        device = _device(config.device)
        precision = _precision(config.precision, device)
        try:
            parts = checkpoint.load(folder, device)
        except checkpoint.Unsupported as error:
            raise EngineUnavailable(str(error)) from error
        transformer, pattern = parts.weights.config, parts.pattern
        slots = slots_that_fit(
            config.memory,
            device,
            weights=transformer.parameters * precision.itemsize,
            slot=transformer.cached_numbers(pattern.positions, MAX_TOKENS) * precision.itemsize,
        )
        if transformer.parameters < SMALL:
            torch.set_num_threads(1)
        loaded = load_backend(
            config.backend, parts.weights, slots, pattern.positions, device, precision
        )
        log.info("%d slots on %s in %s, backend %s", slots, device, precision, loaded.name)
        return cls(
            revision=revision(folder),
            device=device,
            precision=precision,
            slots=slots,
            pattern=pattern,
            encode_text=parts.encode_text,
            encode_audio=parts.encode_audio,
            backend=loaded.backend,
            backend_name=loaded.name,
            fallback=loaded.fault,
            sampler=Sampler(slots, pattern.codebooks, transformer.vocab_size, device),
            codec=parts.codec,
        )


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise EngineUnavailable(
            f"device: {name} does not exist, this machine has {count} GPUs; name another device"
        )
    return device


def _precision(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    precision: torch.dtype = getattr(torch, name)
    return precision
