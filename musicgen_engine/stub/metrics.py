"""An engine's metrics among Triton's own, in Triton's stub."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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
        labels = {"model": model, "version": version}
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


@contextmanager
def _answer_in_time() -> Iterator[None]:
    """A dead Triton never answers, and the wait for its answer holds the interpreter's lock. Only a
    signal without a handler can end this process then."""
    signal.alarm(TIMEOUT)
    try:
        yield
    finally:
        signal.alarm(0)
