"""The seam of what computes: a batch of positions in, logits out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.delay_pattern import Integers


@dataclass(frozen=True)
class ModelInput:
    """The positions of n sequences, sequence after sequence. One of several slots is as many here.

    tokens: [codebooks, sum(lengths)]
    slots: [n], where each sequence keeps its keys and values.
    starts: [n], the position of each sequence's first token in its window. Those of a prefix are
        negative: -1 is the last one. There the conditioning's prefix stands for the token.
    lengths: [n], the tokens of each sequence: 1 in decode, more in prefill.
    """

    tokens: Integers
    slots: Integers
    starts: Integers
    lengths: Integers

    @classmethod
    def of(cls, tokens: Integers, slots: Sequence[int], start: int) -> ModelInput:
        """Positions of one sequence, [codebooks, positions], for each of its slots."""
        n, length = len(slots), tokens.shape[1]
        return cls(np.tile(tokens, n), np.array(slots), np.full(n, start), np.full(n, length))

    def __add__(self, other: ModelInput) -> ModelInput:
        """The sequences of both."""
        tokens = np.concatenate([self.tokens, other.tokens], axis=1)
        pairs = (
            (self.slots, other.slots),
            (self.starts, other.starts),
            (self.lengths, other.lengths),
        )
        return ModelInput(tokens, *map(np.concatenate, pairs))


class BackendUnavailable(Exception):
    """The backend cannot compute the model here; the message says why, after its name."""


class Backend(Protocol):
    """Computes the transformer for all slots. `Transformer` is the reference."""

    def set_conditioning(self, slot: int, conditioning: Conditioning) -> Sequence[int]:
        """Condition the positions to come of `slot`; those in the cache stay as they are.

        A conditioning that replaces another one in the middle of a sequence has a prefix of the
        same length, and no row that the slot lacks: see `copy_row`.

        Returns:
            For rows, the first positions of the prefix that need no computing: the cache has them
            from a sequence before.
        """

    def copy_row(self, source: int, slot: int, row: int, end: int) -> None:
        """Let a row that joins in the middle of a sequence have seen what the first row of the
        slot `source` has: the first `end` positions in the cache."""

    def forward(self, batch: ModelInput) -> Tensor:
        """Run the batch; each sequence continues what its slot has seen since its first position.

        Returns:
            The logits after the last position of each sequence: float32
            [guidance rows of all sequences, codebooks, vocab_size], sequence after sequence.
        """


def to_device(host: Tensor, device: torch.device) -> Tensor:
    """`host` on the device, without waiting. A copy from memory that is not pinned would wait for
    all the work that the device has queued."""
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host
