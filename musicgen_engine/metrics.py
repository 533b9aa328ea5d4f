"""What is measured of an engine: by its own name, Prometheus' name, and what it is."""

from __future__ import annotations

GAUGES = {  # how it is
    "queued": ("musicgen_queued_songs", "Songs that wait for a slot, or for the weights"),
    "running": ("musicgen_slots_in_use", "Songs that play"),
    "slots": ("musicgen_slots", "Songs that can play at a time; 0 while no engine is there"),
    "memory": (
        "musicgen_memory_bytes",
        "Of the GPU that the engine keeps for itself; on a CPU, of the host in its process",
    ),
}
COUNTERS = {  # since its stub was started
    "rounds": ("musicgen_steps_total", "Steps, in each of which every song gets further"),
    "round_seconds": ("musicgen_step_seconds_total", "Time that the steps took"),
    "prefilled": ("musicgen_prefill_columns_total", "Columns of prompts that the model has read"),
    "audio": ("musicgen_audio_seconds_total", "Music that went out"),
}
