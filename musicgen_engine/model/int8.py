"""The arithmetic of int8, in plain torch: what the native code is held against.

A number is rounded to one of 255 steps, whose size is 1/127 of the largest number of its group. A
matrix has a group for each output. Inputs have a group for each 128 numbers of a row, so that one
large number does not make its whole row coarse. The cache has one for each position and head.
"""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 128  # inputs


class Int8Linear:
    """A matrix in int8, and inputs rounded to int8 when they come."""

    def __init__(self, weight: Tensor) -> None:
        """`weight`: float32 [out, in]."""
        whole, scales = quantize(weight)
        self._groups, self._scales = torch.split(whole, GROUP, dim=1), scales[:, 0]

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, in] → [rows, out]"""
        total = x.new_zeros(len(x), len(self._scales))
        for inputs, weights in zip(torch.split(x, GROUP, dim=1), self._groups, strict=True):
            whole, scales = quantize(inputs)
            # Sums of whole numbers below 2^24, so they are exact in float32.
            total = total + whole @ weights.T * scales
        return total * self._scales


def quantize(x: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers from -127 to 127, and the scales [..., 1] to multiply them by."""
    peak = x.abs().amax(dim=-1, keepdim=True)
    steps = torch.where(peak > 0, 127 / peak, 0)
    return (x * steps).round(), peak / 127


def rounded(x: Tensor) -> Tensor:
    """x as int8 gives it back."""
    whole, scales = quantize(x)
    return whole * scales
