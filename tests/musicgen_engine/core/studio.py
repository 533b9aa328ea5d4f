"""The real engine without its process: songs in, and what came of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from musicgen_engine.core.engine import Engine
from musicgen_engine.core.loaded_model import Model
from musicgen_engine.core.scheduler import Scheduler, Task
from musicgen_engine.core.track import Chunk
from protocol.errors import ServiceError
from protocol.request import Codes, Samples, Song


@dataclass
class Take:
    """What a listener got of one song."""

    task: Task
    chunks: list[Chunk] = field(default_factory=list)
    error: ServiceError | None = None

    @property
    def ended(self) -> bool:
        return self.error is not None or (bool(self.chunks) and self.chunks[-1].last)

    @property
    def audio(self) -> Samples:
        return np.concatenate([chunk.audio for chunk in self.chunks], axis=1)

    @property
    def codes(self) -> Codes:
        return np.concatenate([chunk.codes for chunk in self.chunks], axis=1)


class Studio:
    def __init__(self, model: Model, max_queue: int = 32) -> None:
        self.scheduler = Scheduler(max_queue)
        self.engine = Engine(model, self.scheduler, self)
        self._takes: dict[int, Take] = {}

    def submit(self, song: Song) -> Take:
        take = Take(Task(len(self._takes), song))
        self.scheduler.submit(take.task)
        self._takes[take.task.id] = take
        return take

    def finish(self) -> None:
        """Plays all there is to the end."""
        while not all(take.ended for take in self._takes.values()):
            self.engine.round()

    def chunk(self, task: Task, chunk: Chunk) -> None:
        assert not self._takes[task.id].ended
        self._takes[task.id].chunks.append(chunk)

    def error(self, task: Task, error: ServiceError) -> None:
        assert not self._takes[task.id].ended
        self._takes[task.id].error = error


def play(model: Model, song: Song) -> Take:
    """A song all by itself."""
    studio = Studio(model)
    take = studio.submit(song)
    studio.finish()
    return take


def play_together(model: Model, songs: Mapping[int, Song]) -> list[Take]:
    """Songs by the round in which they join."""
    studio = Studio(model)
    takes = []
    for round in range(max(songs) + 1):
        if round in songs:
            takes.append(studio.submit(songs[round]))
        studio.engine.round()
    studio.finish()
    return takes
