"""A checkpoint on its device, with as many slots as there is memory for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from musicgen_engine.config import ModelConfig
from musicgen_engine.core import checkpoint
from musicgen_engine.core.checkpoint import MAX_PREFIX_TOKENS, MAX_TOKENS, EncodeText
from musicgen_engine.core.melody import MelodyEncoder
from musicgen_engine.core.memory import slots_that_fit
from musicgen_engine.hub import revision
from musicgen_engine.model.backend import Backend
from musicgen_engine.model.backend_loader import SMALL, choose_backend, choose_codec
from musicgen_engine.model.decoder import Decoder
from musicgen_engine.model.delay_pattern import DelayPattern
from musicgen_engine.model.streaming_codec import StreamingCodec
from protocol.constants import Codes, Samples
from protocol.errors import EngineUnavailable

log = logging.getLogger("engine")


@dataclass(frozen=True)
class LoadedModel:
    """`fallback` says why `backend_name`, or the codec's code, is not what was asked for."""

    revision: str
    device: torch.device
    precision: torch.dtype
    slots: int
    pattern: DelayPattern
    encode_text: EncodeText
    encode_audio: Callable[[Samples, int], Codes]  # of audio and its sample rate
    backend: Backend
    backend_name: str
    fallback: str | None
    decoder: Decoder
    codec: StreamingCodec
    melody: MelodyEncoder | None  # None for a model that takes no melody

    @classmethod
    def load(cls, folder: Path, config: ModelConfig) -> LoadedModel:
        """Raises EngineUnavailable: it says why the model cannot be served here."""
        device = _device(config.device)
        precision = None if config.precision == "auto" else getattr(torch, config.precision)
        try:
            parts = checkpoint.load(folder, device)
        except checkpoint.Unsupported as error:
            raise EngineUnavailable(str(error)) from error
        transformer, pattern = parts.weights.config, parts.pattern
        if transformer.parameters < SMALL:
            torch.set_num_threads(1)  # more would wait for one another longer than they work
        choice = choose_backend(config.backend, precision, parts.weights, device)
        bytes_each = choice.precision.itemsize
        prefix = parts.melody.columns + MAX_PREFIX_TOKENS if parts.melody else 0
        tokens, positions = 0 if prefix else MAX_TOKENS, pattern.positions + prefix
        slots = slots_that_fit(
            config.memory,
            device,
            weights=transformer.parameters * bytes_each,
            slot=transformer.cached_numbers(positions, tokens) * bytes_each,
        )
        loaded = choice.load(slots, positions, device)
        codec, codec_fault = choose_codec(
            config.backend, parts.codec, pattern.codebooks, pattern.special_token
        )
        log.info("%d slots on %s in %s, backend %s", slots, device, choice.precision, loaded.name)
        return cls(
            revision=revision(folder),
            device=device,
            precision=choice.precision,
            slots=slots,
            pattern=pattern,
            encode_text=parts.encode_text,
            encode_audio=parts.encode_audio,
            backend=loaded.backend,
            backend_name=loaded.name,
            fallback=loaded.fault or codec_fault,
            decoder=loaded.decoder,
            codec=codec,
            melody=parts.melody,
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
