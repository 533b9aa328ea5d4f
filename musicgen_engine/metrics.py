"""The metrics of an engine: their names, and what the engine counts."""

from __future__ import annotations

from collections import Counter

GAUGES = {  # name here: (name for Prometheus, description)
    "queued": ("musicgen_queued_songs", "Songs that wait for a slot or for the weights"),
    "running": ("musicgen_slots_in_use", "Songs that are being generated"),
    "slots": ("musicgen_slots", "Songs that can be generated at a time; 0 without an engine"),
    "memory": (
        "musicgen_memory_bytes",
        "GPU memory that the engine holds; on a CPU, the memory of its process",
    ),
    "backend_fallback": (
        "musicgen_backend_fallback",
        "1 while another backend or device serves than the first choice, which cannot",
    ),
}
COUNTERS = {  # since the start of the stub
    "steps": ("musicgen_steps_total", "Steps; each makes the next codes of all songs of a device"),
    "step_seconds": ("musicgen_step_seconds_total", "Time of the steps"),
    "prefilled": (
        "musicgen_prefill_positions_total",
        "Positions of prompts that the model has seen",
    ),
    "audio": ("musicgen_audio_seconds_total", "Seconds of music that were sent"),
}


class Counters:
    """One thread counts, another one reads."""

    def __init__(self) -> None:
        # Complete from the start: a dictionary that grows cannot be copied by another thread.
        self._counts: dict[str, float] = dict.fromkeys(COUNTERS, 0.0)
        self._reported = Counter(self._counts)

    def add(self, **amounts: float) -> None:
        for name, amount in amounts.items():
            self._counts[name] += amount

    def delta(self) -> dict[str, float]:
        """The amounts added since the last call, by name."""
        counts = Counter(self._counts)
        delta, self._reported = counts - self._reported, counts
        return dict(delta)
