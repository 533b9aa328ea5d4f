"""Keys and values of all slots, at fixed places."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class KVCache:
    """`data`: [layers, slots, 2 (keys, values), rows, heads, positions, head_dim].

    It is never cleared: attention sees only what the sequence in the slot has written.
    """

    data: Tensor

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
        shape = (layers, slots, 2, rows, heads, positions, head_dim)
        return cls(torch.empty(shape, device=device, dtype=precision))

    def past(self, layer: int, slot: int, rows: int, end: int) -> Tensor:
        """Keys and values of a slot up to position `end`: [2, rows, heads, end, head_dim]."""
        return self.data[layer, slot, :, :rows, :, :end]
