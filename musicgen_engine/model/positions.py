"""How columns know where they are: by sinusoids that are added, or by rotations in the attention.

Sources: audiocraft `modules/transformer.py` (`create_sin_embedding`) and `modules/rope.py`; Su et
al., RoFormer, 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor

PERIOD = 10_000  # columns, by 2 pi, of the slowest wave


def sinusoids(columns: int, dim: int) -> Tensor:
    """float32 [columns, dim]: cosines and sines of falling frequency."""
    half = dim // 2
    phases = torch.arange(columns)[:, None] / PERIOD ** (torch.arange(half) / (half - 1))
    return torch.cat([phases.cos(), phases.sin()], dim=1)


def rotations(columns: int, head_dim: int) -> Tensor:
    """float32 [columns, 2 (cosines, sines), head_dim]: each pair of neighbours turns together."""
    phases = torch.arange(columns)[:, None] / PERIOD ** (torch.arange(0, head_dim, 2) / head_dim)
    return torch.stack([phases.cos(), phases.sin()], dim=1).repeat_interleave(2, dim=-1)


def rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Queries and keys, [rows, columns, 2, heads, head_dim], by the rotations of their columns.

    What a query finds in a key then depends on how far apart they are, not on where.
    """
    cosines, sines = rotations[:, :, None, None].unbind(1)  # [columns, 1, 1, head_dim]
    across = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
    return x * cosines + across * sines
