"""The conditions of a sequence."""

from __future__ import annotations

from dataclasses import dataclass

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
