"""A matrix to multiply by, laid out as the processor likes it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


class Linear:
    """x [rows, in] → [rows, out], without bias.

    On a CPU the weights are packed for oneDNN, once. That is faster than MKL on the unpacked ones,
    above all at the few rows of a decode step; and its kernels add up in an order that does not
    depend on the number of rows, so a row comes out the same to the bit in whatever company.
    `packed=False` is the plain way, which has neither.
    """

    def __init__(self, weight: Tensor, packed: bool = True) -> None:
        self._packed = packed and weight.device.type == "cpu" and weight.dtype == torch.float32
        self._weight: Tensor = (
            torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 2)  # laid out for 2 rows
            if self._packed
            else weight
        )

    def __call__(self, x: Tensor) -> Tensor:
        if not self._packed:
            return functional.linear(x, self._weight)
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, None, "none", [], "")
        return y
