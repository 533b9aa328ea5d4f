"""Random numbers that are a function of where they are used, so that a sequence repeats exactly.

The generator is SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators",
OOPSLA 2014; also Java's SplittableRandom). Its i-th number is a hash of its seed and i, so it needs
no state. It computes with integers alone: the bits are the same on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor

# torch has no arithmetic on unsigned 64-bit numbers: these are the same bits, read as signed.
_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64
_POSITIVE = 2**63 - 1
_SCALE = (1 - 2**-24) * 2**-63  # takes 2**63 to the largest float32 below 1


def exponential(seeds: Tensor, frames: Tensor, vocab_size: int) -> Tensor:
    """Exponential random numbers (mean 1), one for each token that could be sampled.

    A number depends on (seed, frame, codebook, token) and on nothing else.

    Args:
        seeds: int64 [n].
        frames: int64 [n, K], absolute, by codebook; below 2**32.
        vocab_size: tokens in a codebook.

    Returns:
        float32 [n, K, vocab_size]: above 0 and finite.
    """
    codebooks = torch.arange(frames.shape[1], device=frames.device)
    tokens = torch.arange(vocab_size, device=frames.device)
    # Without this hash the numbers of some seeds would be those of others, only shifted.
    keys = _number(_mix(seeds)[:, None], frames + codebooks * 2**32)  # [n, K]
    bits = _number(keys[..., None], tokens)  # [n, K, vocab_size]
    # log1p is exact to the last bit near 0, where the smallest numbers are.
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
