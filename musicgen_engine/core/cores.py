"""How many cores a container leaves to this process."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch

from musicgen_engine.core.control_groups import groups, text


def limit_threads() -> None:
    """Compute with at most as many threads as there are cores. torch knows the cores that a process
    may run on, but not the time that its container may take of them: when too many threads have
    spent it, the kernel stops all of them."""
    torch.set_num_threads(math.ceil(min(torch.get_num_threads(), cores())))


def cores(root: Path = Path("/")) -> float:
    """The cores whose time the control groups leave; infinity without a limit.

    `root` is where /proc and /sys are.
    """
    return min(_limits(root), default=math.inf)


def _limits(root: Path) -> Iterator[float]:
    for folder, version in groups("cpu", root):
        names = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        numbers = " ".join(text(folder / name) for name in names).split()
        if numbers and numbers[0].isdecimal():  # else there is no limit
            time, period = map(int, numbers)
            yield time / period
