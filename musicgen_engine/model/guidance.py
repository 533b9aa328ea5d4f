"""Classifier-free guidance: the logits of a sequence's rows become one.

Source: "Classifier-Free Diffusion Guidance" (Ho and Salimans, 2022); audiocraft `models/lm.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Guidance:
    """One row for each weight, and the unconditional row behind them."""

    weights: tuple[float, ...]

    @property
    def rows(self) -> int:
        return len(self.weights) + 1


CLASSIFIER_FREE = Guidance((1.0,))


def combine(logits: Tensor, rows: Sequence[int], coefficients: Tensor) -> Tensor:
    """`u + sum((c_i - u) * coefficient_i)` for each of n sequences, in audiocraft's order.

    Args:
        logits: float32 [sum(rows), codebooks, vocab_size], sequence after sequence.
        rows: how many rows each sequence has.
        coefficients: float32 [n, max(rows) - 1], the guidance scale times the row's weight.

    Returns:
        float32 [n, codebooks, vocab_size]
    """
    if len(set(rows)) > 1:
        parts = zip(torch.split(logits, list(rows)), rows, coefficients, strict=True)
        return torch.cat([combine(part, [count], scale[None]) for part, count, scale in parts])
    *conditional, unconditional = logits.view(len(rows), rows[0], *logits.shape[1:]).unbind(1)
    return _combine(conditional, unconditional, coefficients)


def combine_padded(logits: Tensor, rows: Tensor, coefficients: Tensor) -> Tensor:
    """`combine` with the number of rows on the device: to the bit the same.

    Args:
        logits: float32 [n, most rows, codebooks, vocab_size]; those beyond a sequence's own rows
            are any finite numbers.
        rows: int64 [n].
        coefficients: float32 [n, most rows - 1]; 0 beyond a sequence's own rows.
    """
    last = (rows - 1)[:, None, None, None].expand(-1, 1, *logits.shape[2:])
    return _combine(logits.unbind(1), logits.gather(1, last)[:, 0], coefficients)


def _combine(conditional: Iterable[Tensor], unconditional: Tensor, coefficients: Tensor) -> Tensor:
    guided = unconditional
    for row, coefficient in zip(conditional, coefficients.unbind(1), strict=False):
        guided = guided + (row - unconditional) * coefficient[:, None, None]
    return guided
