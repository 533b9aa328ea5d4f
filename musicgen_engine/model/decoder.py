"""The seam of decoding: running sequences in, their next codes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from musicgen_engine.model.backend import Backend, ModelInput
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.delay_pattern import Integers, Window
from musicgen_engine.model.guidance import SLOT_ROWS, Guidance
from musicgen_engine.model.sampler import Sampler
from protocol.constants import Codes
from protocol.request import GenerationRequest


@dataclass(frozen=True)
class DecodeInput:
    """A sequence that decodes from `position` of its window on.

    `codes` are the whole sequence's, as far as the host has them. `slots` have its guidance rows.
    """

    slots: Sequence[int]
    window: Window
    position: int
    codes: Codes


class Decoder(Protocol):
    """Makes the codes of all slots.

    burst: the positions that one call decodes at most.
    ahead: the calls that may be started before the codes of an earlier one are read.
    """

    @property
    def burst(self) -> int: ...
    @property
    def ahead(self) -> int: ...

    def set_conditioning(self, slots: Sequence[int], conditioning: Conditioning) -> Sequence[int]:
        """Compute the positions to come of a sequence so. The rows of its guidance go to its slots
        in their order; see Backend.set_conditioning."""

    def set_request(
        self, slots: Sequence[int], request: GenerationRequest, guidance: Guidance
    ) -> None:
        """Sample the positions to come of a sequence so."""

    def prefill(self, batch: ModelInput) -> None:
        """Let the model see positions whose codes are known."""

    def decode(
        self, inputs: Sequence[DecodeInput], count: int, prefill: ModelInput | None
    ) -> Callable[[], Integers]:
        """Start the next `count` positions of each sequence, and perhaps a prefill beside them.

        Returns:
            A function that waits for the codes that these positions make, and returns them:
            [count, sequences, codebooks].
        """


class HostDecoder:
    """Decodes one position at a time, by the logits of a backend."""

    burst, ahead = 1, 0

    def __init__(self, backend: Backend, sampler: Sampler) -> None:
        self._backend, self._sampler = backend, sampler

    def set_conditioning(self, slots: Sequence[int], conditioning: Conditioning) -> Sequence[int]:
        parts = zip(slots, conditioning.split(SLOT_ROWS), strict=True)
        return [known for part in parts for known in self._backend.set_conditioning(*part)]

    def set_request(
        self, slots: Sequence[int], request: GenerationRequest, guidance: Guidance
    ) -> None:
        self._sampler.set_request(slots[0], request, guidance)

    def prefill(self, batch: ModelInput) -> None:
        self._backend.forward(batch)

    def decode(
        self, inputs: Sequence[DecodeInput], count: int, prefill: ModelInput | None
    ) -> Callable[[], Integers]:
        """One forward pass for all; the sequences that decode come first in it."""
        each = [one for one in inputs for _ in one.slots]
        tokens = [one.window.tokens(one.codes, one.position, 1) for one in each]
        batch = ModelInput(
            tokens=np.concatenate(tokens, axis=1),
            slots=np.array([slot for one in inputs for slot in one.slots]),
            starts=np.array([one.position for one in each]),
            lengths=np.ones(len(each), np.int64),
        )
        logits = self._backend.forward(batch + prefill if prefill else batch)
        frames = np.stack([one.window.frames(one.position) for one in inputs])
        slots = [one.slots[0] for one in inputs]
        codes = self._sampler.sample(logits, slots, torch.from_numpy(frames))
        return lambda: codes[None].cpu().numpy()
