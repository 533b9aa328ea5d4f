"""Positional embeddings: sinusoids that are added, or rotations inside the attention.

Sources: audiocraft `modules/transformer.py` (`create_sin_embedding`) and `modules/rope.py`; Su et
al., RoFormer, 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor

PERIOD = 10_000  # positions, divided by 2 pi, of the slowest wave


def sinusoids(positions: int, dim: int) -> Tensor:
    """float32 [positions, dim]: cosines and sines of falling frequency."""
    half = dim // 2
    phases = torch.arange(positions)[:, None] / PERIOD ** (torch.arange(half) / (half - 1))
    return torch.cat([phases.cos(), phases.sin()], dim=1)


def frequencies(head_dim: int) -> Tensor:
    """Radians that each pair of neighbours turns at a position: float32 [head_dim / 2].

    A checkpoint has its own, which may be rounded to half precision.
    """
    return 1 / PERIOD ** (torch.arange(0, head_dim, 2) / head_dim)


def rotations(positions: int, frequencies: Tensor) -> Tensor:
    """float32 [positions, 2 (cosines, sines), head_dim]; each pair of neighbours turns together."""
    phases = torch.outer(torch.arange(positions).float(), frequencies.float())
    return torch.stack([phases.cos(), phases.sin()], dim=1).repeat_interleave(2, dim=-1)


def rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Turn queries and keys by the rotations of their positions. A query then finds in a key how
    far apart the two are, not where they are.

    Args:
        x: [n, 2 (queries, keys), heads, head_dim].
        rotations: [n, 2, head_dim].
    """
    cosines, sines = rotations[:, :, None, None].unbind(1)  # [n, 1, 1, head_dim]
    across = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
    return x * cosines + across * sines
