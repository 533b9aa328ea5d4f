"""The arithmetic of int8, in plain torch: what the native code is held against.

A number is rounded to one of 255 steps, whose size is 1/127 of the largest number of its group. A
matrix has a group for each output. Inputs have a group for each 128 numbers of a row, so that one
large number does not make its whole row coarse. The cache has one for each position and head.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

GROUP = 128  # inputs


class Int8Linear:
    """A matrix, and inputs when they come, rounded to int8 and multiplied in float32."""

    def __init__(self, weight: Tensor) -> None:
        """`weight`: float32 [out, in]."""
        self._weight = rounded(weight)

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, in] → [rows, out]"""
        inputs = torch.cat([rounded(group) for group in torch.split(x, GROUP, dim=1)], dim=1)
        return functional.linear(inputs, self._weight)


def rounded(x: Tensor) -> Tensor:
    """Each group, the last dimension, as int8 gives it back."""
    peak = x.abs().amax(dim=-1, keepdim=True)
    steps = torch.where(peak > 1e-30, 127 / peak, 0)  # the quotient is finite
    return (x * steps).round() * (peak / 127)
