"""Keys and values of all slots, at fixed places."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from musicgen_engine.model.int8 import rounded


@dataclass(frozen=True)
class KVCache:
    """`data`: [layers, 2 (keys, values), slots, rows, heads, positions, head_dim].

    Attention sees only what the sequence in the slot has written, so it need not be cleared, but by
    graphs: a number that they mask must be finite. With `int8` each number is rounded to int8,
    though `data` is float32.
    """

    data: Tensor
    int8: bool

    @classmethod
    def allocate(
        cls,
        layers: int,
        slots: int,
        rows: int,
        heads: int,
        positions: int,
        head_dim: int,
        device: torch.device,
        precision: torch.dtype,
    ) -> KVCache:
        shape = (layers, 2, slots, rows, heads, positions, head_dim)
        int8 = precision == torch.int8
        dtype = torch.float32 if int8 else precision
        return cls(torch.empty(shape, device=device, dtype=dtype), int8)

    def kept(self, numbers: Tensor) -> Tensor:
        """Keys or values [..., head_dim], as the cache keeps them."""
        return rounded(numbers) if self.int8 else numbers

    def past(self, layer: int, slot: int, rows: int, end: int) -> Tensor:
        """Keys and values of a slot up to position `end`: [2, rows, heads, end, head_dim]."""
        return self.data[layer, :, slot, :rows, :, :end]
