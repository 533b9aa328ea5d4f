"""Texts and audio are encoded by a thread beside the steps of their engine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch

from musicgen_engine.core.device import use
from musicgen_engine.core.sequence import Sequence

# Beside songs that use all cores, the thread and those that torch starts for it get a quarter of
# them: the steps of the songs take at most one and a half times as long.
NICENESS = 5


@dataclass(frozen=True)
class Encoding:
    """A text or audio of a sequence, which `take` hands to it once it is encoded."""

    sequence: Sequence
    result: Future[Any]
    take: Callable[[Any], None]
    start: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Those that it has taken so far; 0 once it is done."""
        return 0.0 if self.result.done() else time.monotonic() - self.start


def encoder(device: torch.device) -> ThreadPoolExecutor:
    """The thread of one engine. The number of torch's threads is always the same, because the last
    bits of a result depend on it: they must not depend on the other work of the engine.

    On a GPU its work goes to the stream of the steps: there it is done in the order in which both
    threads start it.
    """
    return ThreadPoolExecutor(1, "encoder", _begin, (device,))


def _begin(device: torch.device) -> None:
    os.nice(NICENESS)  # on Linux, of this thread alone
    use(device)
