"""What the engine counts of itself."""

from __future__ import annotations

from collections import Counter

from musicgen_engine.metrics import COUNTERS


class Meter:
    """Counted in one thread and read in another."""

    def __init__(self) -> None:
        # All from the beginning: a dictionary that grows cannot be copied meanwhile.
        self._counted: dict[str, float] = dict.fromkeys(COUNTERS, 0.0)
        self._told = Counter(self._counted)

    def count(self, **amounts: float) -> None:
        for name, amount in amounts.items():
            self._counted[name] += amount

    def news(self) -> dict[str, float]:
        """What has come to each since the last time."""
        counted = Counter(self._counted)
        news, self._told = counted - self._told, counted
        return dict(news)
