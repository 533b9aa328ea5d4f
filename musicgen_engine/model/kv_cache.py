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

    def layer(self, layer: int, slot: int) -> tuple[Tensor, Tensor]:
        """The keys and values of one slot: [rows, heads, positions, head_dim] each."""
        keys, values = self.data[layer, slot]
        return keys, values
