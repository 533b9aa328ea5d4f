"""An engine's measures among Triton's own metrics. Runs in Triton's stub only."""

from __future__ import annotations

import signal
from collections.abc import Mapping

import triton_python_backend_utils as pb_utils

from musicgen_engine.metrics import COUNTERS, GAUGES

DEAF = 5  # seconds without Triton's answer that mean it is dead


class Metrics:
    def __init__(self, model: str, version: str) -> None:
        self._families = {  # which have to outlive their metrics
            name: pb_utils.MetricFamily(name=metric, description=what, kind=kind)
            for kind, measures in (
                (pb_utils.MetricFamily.GAUGE, GAUGES),
                (pb_utils.MetricFamily.COUNTER, COUNTERS),
            )
            for name, (metric, what) in measures.items()
        }
        labels = {"model": model, "version": version}
        self._metrics = {
            name: family.Metric(labels=labels) for name, family in self._families.items()
        }

    def tell(self, measures: Mapping[str, float]) -> None:
        """Gauges as they are, counters by what has come to them."""
        # A dead Triton never answers, and the wait for it holds the interpreter's lock: nothing in
        # this process could end it but a signal that nobody handles.
        signal.alarm(DEAF)
        try:
            for name, value in measures.items():
                metric = self._metrics[name]
                if name in COUNTERS:
                    metric.increment(value)
                else:
                    metric.set(value)
        finally:
            signal.alarm(0)
