"""The time that something takes."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]


def seconds(run: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    start = clock()
    run()
    return clock() - start
