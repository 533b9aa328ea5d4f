"""An engine's metrics among Triton's own, in Triton's stub."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import triton_python_backend_utils as pb_utils

from musicgen_engine.metrics import COUNTERS, GAUGES

TIMEOUT = 5  # seconds without Triton's answer that mean it is dead


class TritonMetrics:
    def __init__(self, model: str, version: str) -> None:
        self._families = {  # they have to outlive their metrics
            name: pb_utils.MetricFamily(name=metric, description=description, kind=kind)
            for kind, metrics in (
                (pb_utils.MetricFamily.GAUGE, GAUGES),
                (pb_utils.MetricFamily.COUNTER, COUNTERS),
            )
            for name, (metric, description) in metrics.items()
        }
        self._place, number = _lowest_free_place(model)
        labels = {"model": model, "version": version, "stub": str(number)}
        self._metrics = {
            name: family.Metric(labels=labels) for name, family in self._families.items()
        }

    def update(self, values: Mapping[str, float]) -> None:
        """Set the gauges; add to the counters."""
        with _answer_in_time():
            for name, value in values.items():
                metric = self._metrics[name]
                if name in COUNTERS:
                    metric.increment(value)
                else:
                    metric.set(value)

    def close(self) -> None:
        """Remove them. What Python removes later, without Triton's memory, crashes."""
        with _answer_in_time():
            self._metrics.clear()
            self._families.clear()
        self._place.close()


def _lowest_free_place(model: str) -> tuple[socket.socket, int]:
    """A number that no other stub of the model in this Triton has while the socket is open.

    A model that is loaded again meets its old stub, which serves its last songs. Triton gives two
    stubs with the same labels one metric and frees it with the first stub: what the other one sets
    then corrupts Triton's memory.
    """
    owner = f"{Path('/proc/self/ns/pid').readlink()}-{os.getppid()}"
    place = socket.socket(socket.AF_UNIX)  # abstract: the number is free when the stub has died
    for number in itertools.count():
        try:
            place.bind(f"\0audiocraft-metrics-{owner}-{number}-{model[:40]}")
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return place, number


@contextmanager
def _answer_in_time() -> Iterator[None]:
    """A dead Triton never answers, and the wait for its answer holds the interpreter's lock. Only a
    signal without a handler can end this process then."""
    signal.alarm(TIMEOUT)
    try:
        yield
    finally:
        signal.alarm(0)
