"""Random numbers that are a function of where they are used, so that a song repeats exactly.

The generator is SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators",
OOPSLA 2014; also Java's SplittableRandom). Its i-th number is a hash of its seed and i, so it needs
no state. It is integers alone: the same bits on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor

# torch has no arithmetic on unsigned 64-bit numbers: the same bits, read as signed ones.
_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64
_POSITIVE = 2**63 - 1
_SCALE = (1 - 2**-24) * 2**-63  # takes 2**63 to the largest float32 below 1


def exponential(seeds: Tensor, frames: Tensor, card: int) -> Tensor:
    """Exponential noise (mean 1) for each token that could be drawn.

    A number depends on (seed, frame, codebook, token) and on nothing else.

    Args:
        seeds: int64 [n].
        frames: int64 [n, K], absolute, by codebook; below 2**32.
        card: tokens in a codebook.

    Returns:
        float32 [n, K, card]: above 0, and finite.
    """
    codebooks = torch.arange(frames.shape[1], device=frames.device)
    tokens = torch.arange(card, device=frames.device)
    # A seed is hashed first, or some seeds' numbers would be others', only shifted.
    keys = _number(_mix(seeds)[:, None], frames + codebooks * 2**32)  # [n, K]
    bits = _number(keys[..., None], tokens)  # [n, K, card]
    # The log1p is exact to the last bit near 0, where the winners of a race are.
    uniform = bits.bitwise_or_(1).bitwise_and_(_POSITIVE).float().mul_(-_SCALE)  # in (-1, 0)
    return uniform.log1p_().neg_()


def _number(seed: Tensor, i: Tensor) -> Tensor:
    """The i-th number (from 0) of the generator with this seed."""
    return _mix(seed + (i + 1) * _GAMMA)


def _mix(z: Tensor) -> Tensor:
    z = _fold(z, 30).mul_(_FIRST)
    z = _fold(z, 27).mul_(_SECOND)
    return _fold(z, 31)


def _fold(z: Tensor, shift: int) -> Tensor:
    """z ^ (z >>> shift); torch shifts the sign in, so it is masked away."""
    return (z >> shift).bitwise_and_(2 ** (64 - shift) - 1).bitwise_xor_(z)
