"""Matrices to multiply by, without bias: x [rows, in] → [rows, out]."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

MAX_SINGLE_ROW = 1_024  # inputs


class Linear(Protocol):
    def __init__(self, weight: Tensor) -> None:
        """`weight`: [out, in], on its device and in its precision."""

    def __call__(self, x: Tensor) -> Tensor: ...


class PlainLinear:
    """torch's own multiplication."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self._weight)


class PackedLinear:
    """A float32 matrix on a CPU, packed once for oneDNN.

    It is faster than MKL on the unpacked matrix, above all at the few rows of a decode step. Its
    kernels add up in an order that does not depend on the number of rows, so a row comes out the
    same to the bit whatever the other rows are. The exception is a single row of more than 1,024
    inputs, for which oneDNN takes another kernel on AVX-512: such a row is computed twice.
    """

    def __init__(self, weight: Tensor) -> None:
        rows = 2  # the layout is best for this many
        self._weight: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)

    def __call__(self, x: Tensor) -> Tensor:
        if len(x) == 1 and x.shape[1] > MAX_SINGLE_ROW:
            return self(torch.cat([x, x]))[:1]
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, None, "none", [], "")
        return y
