"""Listeners that ask for songs one after another, and what they hear when."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from musicgen_engine.core.engine import Engine
from musicgen_engine.core.loaded_model import Model
from musicgen_engine.core.scheduler import Scheduler, Task
from musicgen_engine.core.track import Chunk
from protocol.errors import ServiceError
from protocol.request import Codes, Song

GAP = 0.2  # seconds from one song's arrival to the next one's


@dataclass
class Audience:
    """By song: when it was asked for, and each chunk with the time it came."""

    asked: dict[int, float] = field(default_factory=dict)
    heard: dict[int, list[tuple[float, Chunk]]] = field(default_factory=dict)
    ended: int = 0

    def chunk(self, task: Task, chunk: Chunk) -> None:
        self.heard.setdefault(task.id, []).append((time.perf_counter(), chunk))
        self.ended += chunk.last

    def error(self, task: Task, error: ServiceError) -> None:
        raise SystemExit(f"song {task.id}: {error.message}")

    def waits(self) -> list[float]:
        """Seconds from each request to its first audio, in the order in which they came."""
        return [self.heard[id][0][0] - asked for id, asked in self.asked.items()]

    def took(self) -> float:
        """Seconds from the first request to the last audio."""
        return max(heard[-1][0] for heard in self.heard.values()) - self.asked[0]

    def codes(self, song: int) -> Codes:
        return np.concatenate([chunk.codes for _, chunk in self.heard[song]], axis=1)


def perform(model: Model, songs: Sequence[Song]) -> Audience:
    """Plays them with the whole engine, but in this process."""
    audience, scheduler = Audience(), Scheduler(max_queue=len(songs))
    engine = Engine(model, scheduler, audience)

    def ask() -> None:
        for id, song in enumerate(songs):
            audience.asked[id] = time.perf_counter()
            scheduler.submit(Task(id, song))
            time.sleep(GAP)

    threading.Thread(target=ask).start()
    while audience.ended < len(songs):
        scheduler.wait()
        engine.round()
    return audience
