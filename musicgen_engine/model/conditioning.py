"""The conditions of a sequence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from musicgen_engine.model.guidance import CLASSIFIER_FREE, Guidance


@dataclass(frozen=True)
class Conditioning:
    """The conditions of a sequence's guidance rows, in the order of `guidance`.

    cross: for each row what it attends to, the encoded text [tokens, dim]; None is the null text,
        whose keys and values are exactly zero.
    prefix: positions that stand before the codes, [rows, positions, dim]; None for no prefix.
        Rows have equally many, so that a position of the codes is the same one in each.
    """

    cross: tuple[Tensor | None, ...]
    prefix: Tensor | None = None
    guidance: Guidance = CLASSIFIER_FREE

    @property
    def prefix_length(self) -> int:
        return 0 if self.prefix is None else self.prefix.shape[1]

    def split(self, rows: int) -> list[Conditioning]:
        """The conditionings of slots that have room for so many rows."""
        return [
            Conditioning(
                self.cross[first : first + rows],
                None if self.prefix is None else self.prefix[first : first + rows],
                self.guidance,
            )
            for first in range(0, len(self.cross), rows)
        ]

    def shared(self, other: Conditioning) -> list[int]:
        """For each row, the first positions of the prefix that have the same keys and values as
        those of `other`. With cross-attention a position's depend on the text."""
        if self.prefix is None or other.prefix is None:
            return []
        rows = zip(self.cross, other.cross, self.prefix, other.prefix, strict=False)
        return [
            _equal_at_first(prefix, other_prefix) if _same(text, other_text) else 0
            for text, other_text, prefix, other_prefix in rows
        ]


def _same(text: Tensor | None, other: Tensor | None) -> bool:
    if text is None or other is None:
        return text is other
    return torch.equal(text, other)


def _equal_at_first(positions: Tensor, others: Tensor) -> int:
    length = min(len(positions), len(others))
    equal = (positions[:length] == others[:length]).all(dim=1)
    return int(equal.cumprod(dim=0).sum())
