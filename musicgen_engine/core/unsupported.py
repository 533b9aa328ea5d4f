"""The requirements on a checkpoint that the engine can serve."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


class Unsupported(ValueError):
    """The engine has no counterpart for a part of the checkpoint; the message names it."""


def require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Unsupported(f"the checkpoint is not supported: {otherwise}")


def check_finite(part: str, weights: Mapping[str, Tensor]) -> None:
    for name, tensor in weights.items():
        # The extremes show a NaN too, and take less time than a look at each number.
        if tensor.numel() and not all(extreme.isfinite() for extreme in tensor.aminmax()):
            problem = f"{name} holds numbers that are not finite; get the file again"
            raise Unsupported(f"{part} is damaged: {problem}")
