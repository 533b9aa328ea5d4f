"""A checkpoint on its device, with as many slots as there is memory for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from musicgen_engine.config import ModelConfig
from musicgen_engine.core import checkpoint
from musicgen_engine.core.cores import limit_threads
from musicgen_engine.core.device import choose_device, devices, use
from musicgen_engine.core.melody import MelodyEncoder
from musicgen_engine.core.memory import slots_that_fit
from musicgen_engine.core.separator_process import SeparatorProcess
from musicgen_engine.core.text_encoder import MAX_PREFIX_TOKENS, MAX_TOKENS
from musicgen_engine.core.unsupported import Unsupported
from musicgen_engine.hub import revision, separator_weights
from musicgen_engine.model.backend import Backend
from musicgen_engine.model.backend_loader import SMALL, choose_backend, choose_codec
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.decoder import Decoder
from musicgen_engine.model.delay_pattern import DelayPattern
from musicgen_engine.model.guidance import SLOT_ROWS, slots_of
from musicgen_engine.model.streaming_codec import StreamingCodec
from protocol.constants import Codes, Samples
from protocol.errors import EngineUnavailable, InvalidField
from protocol.request import GenerationRequest
from protocol.section import Section

log = logging.getLogger("engine")


@dataclass(frozen=True)
class LoadedModel:
    """`fallback` says why backend, codec or device are not the first choice."""

    revision: str
    device: torch.device
    precision: torch.dtype
    slots: int
    pattern: DelayPattern
    check_texts: Callable[[Section, str], None]  # see TextEncoder.check
    encode_text: Callable[..., Conditioning]  # see TextEncoder.encode
    encode_audio: Callable[[Samples, int], Codes]  # of audio and its sample rate
    backend: Backend
    backend_name: str
    fallback: str | None
    decoder: Decoder
    codec: StreamingCodec
    melody: MelodyEncoder | None  # None for a model that takes no melody
    separator: SeparatorProcess

    @classmethod
    def load(cls, folder: Path, config: ModelConfig) -> LoadedModel:
        """Raises EngineUnavailable: it says why the model cannot be served here."""
        device, device_fault = choose_device(config.device)
        if device_fault:
            log.warning("%s", device_fault)
        try:
            return cls._load(folder, config, device, device_fault)
        except torch.OutOfMemoryError as error:
            raise EngineUnavailable(
                f"{device} has too little memory for the model beside what else it holds; make "
                "room, lower `memory` in its config.pbtxt, or choose another device"
            ) from error

    @classmethod
    def _load(
        cls, folder: Path, config: ModelConfig, device: torch.device, device_fault: str | None
    ) -> LoadedModel:
        use(device)
        limit_threads()
        precision = None if config.precision == "auto" else getattr(torch, config.precision)
        try:
            parts = checkpoint.load(folder, device)
        except Unsupported as error:
            raise EngineUnavailable(str(error)) from error
        transformer, pattern = parts.weights.config, parts.pattern
        if transformer.parameters < SMALL:
            torch.set_num_threads(1)  # more would wait for one another longer than they work
        choice = choose_backend(config.backend, precision, parts.weights, device)
        positions = pattern.positions + (parts.melody.columns if parts.melody else 0)
        tokens = MAX_TOKENS
        if not transformer.cross_attention:  # the text stands before the codes
            positions, tokens = positions + MAX_PREFIX_TOKENS, 0
        slots = slots_that_fit(
            config.memory,
            device,
            weights=transformer.weight_bytes(choice.held),
            slot=transformer.slot_bytes(positions, tokens, choice.held),
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
            check_texts=parts.text.check,
            encode_text=parts.text.encode,
            encode_audio=parts.encode_audio,
            backend=loaded.backend,
            backend_name=loaded.name,
            fallback=device_fault or loaded.fault or codec_fault,
            decoder=loaded.decoder,
            codec=codec,
            melody=parts.melody,
            separator=SeparatorProcess(separator_weights(folder)),
        )

    def check(self, request: GenerationRequest) -> None:
        """Check that this model can generate it. Raises as `GenerationRequest.check_model`."""
        pattern, columns = self.pattern, self.melody.columns if self.melody else 0
        request.check_model(
            pattern.codebooks, pattern.special_token, pattern.window, columns, self.revision
        )
        for within, section in request.named_timeline():
            self.check_texts(section, within)
            self._check_slots(section, within)
        if request.melody is not None and request.separate:
            self.separator.check()

    def _check_slots(self, section: Section, within: str) -> None:
        if slots_of(section.prompt) > self.slots:
            most = self.slots * SLOT_ROWS - 1
            texts = len(section.prompt)
            problem = f"has {texts} texts; give {most}, for which this server has memory"
            raise InvalidField.of_field(f"{within}prompt", problem, maxItems=most)


def load_each(folder: Path, config: ModelConfig) -> list[LoadedModel]:
    """The checkpoint on each device of `config`. Its files are mapped, so they are read once.

    Raises EngineUnavailable: a device cannot serve the model.
    """
    folder = folder.resolve()
    configs = [replace(config, device=device) for device in devices(config.device)]
    return [LoadedModel.load(folder, one) for one in configs]
