"""Classifier-free guidance: the logits of a sequence's rows become one.

Source: "Classifier-Free Diffusion Guidance" (Ho and Salimans, 2022); audiocraft `models/lm.py`; for
several prompts "Compositional Visual Generation with Composable Diffusion Models" (Liu et al.,
2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from protocol.prompt import MAX_TEXTS, Prompt, blend

SLOT_ROWS = 2  # guidance rows that a slot has room for
MAX_ROWS = MAX_TEXTS + 1  # of a sequence, which may have several slots


@dataclass(frozen=True)
class Guidance:
    """A row for each text of a prompt, by its weight, and the unconditional row, which is the
    second: only a blend has others behind it."""

    weights: tuple[float, ...]

    @property
    def rows(self) -> int:
        return len(self.weights) + 1


CLASSIFIER_FREE = Guidance((1.0,))


def rows_of(prompt: Prompt) -> int:
    """One for each text, and the unconditional one."""
    return len(blend(prompt)) + 1


def slots_of(prompt: Prompt) -> int:
    return math.ceil(rows_of(prompt) / SLOT_ROWS)


def combine(logits: Tensor, rows: Sequence[int], coefficients: Tensor) -> Tensor:
    """`u + sum((c_i - u) * coefficient_i)` for each of n sequences, in audiocraft's order.

    Args:
        logits: float32 [sum(rows), codebooks, vocab_size], sequence after sequence.
        rows: how many rows each sequence has.
        coefficients: float32 [n, most rows - 1], the guidance scale times the row's weight.

    Returns:
        float32 [n, codebooks, vocab_size]
    """
    if len(set(rows)) > 1:
        parts = zip(torch.split(logits, list(rows)), rows, coefficients, strict=True)
        return torch.cat([combine(part, [count], scale[None]) for part, count, scale in parts])
    return combine_rows(logits.view(len(rows), rows[0], *logits.shape[1:]), coefficients)


def combine_rows(logits: Tensor, coefficients: Tensor) -> Tensor:
    """`combine` of sequences that have equally many rows.

    Args:
        logits: float32 [n, rows, codebooks, vocab_size].
        coefficients: float32 [n, at least rows - 1]; 0 for a row that counts nothing, whose logits
            are any finite numbers.
    """
    first, unconditional, *others = logits.unbind(1)
    guided = unconditional
    for row, coefficient in zip((first, *others), coefficients.unbind(1), strict=False):
        guided = guided + (row - unconditional) * coefficient[:, None, None]
    return guided
