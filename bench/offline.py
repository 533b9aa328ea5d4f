"""The whole engine in this process: requests in, timed chunks out."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from musicgen_engine.core.audio_stream import AudioChunk
from musicgen_engine.core.engine import Engine
from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.core.queue import Queue
from musicgen_engine.core.sequence import Sequence
from protocol.constants import Codes, Samples
from protocol.errors import ServiceError
from protocol.request import GenerationRequest

ARRIVAL_INTERVAL = 0.2  # seconds between two requests


@dataclass
class Timeline:
    """An OutputSink that keeps the time of each submission and the chunks with their times, by
    sequence."""

    submitted: dict[int, float] = field(default_factory=dict)
    chunks: dict[int, list[tuple[float, AudioChunk]]] = field(default_factory=dict)
    ended: int = 0

    def chunk(self, sequence: Sequence, chunk: AudioChunk) -> None:
        self.chunks.setdefault(sequence.id, []).append((time.perf_counter(), chunk))
        self.ended += chunk.last

    def error(self, sequence: Sequence, error: ServiceError) -> None:
        raise SystemExit(f"song {sequence.id}: {error.message}")

    def changed(self, *_: Any) -> None: ...

    def refused(self, *_: Any) -> None: ...

    def waits(self) -> list[float]:
        """Seconds from each submission to the first audio, in the order of submission."""
        return [self.chunks[id][0][0] - submitted for id, submitted in self.submitted.items()]

    def seconds(self) -> float:
        """Seconds from the first submission to the last audio."""
        return max(chunks[-1][0] for chunks in self.chunks.values()) - self.submitted[0]

    def codes(self, id: int) -> Codes:
        return np.concatenate([chunk.codes for _, chunk in self.chunks[id]], axis=1)

    def audio(self, id: int) -> Samples:
        return np.concatenate([chunk.audio for _, chunk in self.chunks[id]], axis=1)


def steps_until_ready(engine: Engine, sequence: Sequence) -> list[float]:
    """Seconds of each step that others make while what a new sequence needs is encoded."""
    times: list[float] = []
    while not sequence.ready:
        engine.scheduler.wait()
        start = time.perf_counter()
        engine.step()
        times.append(time.perf_counter() - start)
    return times


def generate(model: LoadedModel, requests: Many[GenerationRequest]) -> Timeline:
    """Generate all requests in one batch; a request's index is the id of its sequence."""
    timeline, queue = Timeline(), Queue(max_queue=len(requests))
    engine = Engine(model, queue, timeline)

    def submit() -> None:
        for id, request in enumerate(requests):
            timeline.submitted[id] = time.perf_counter()
            queue.submit(Sequence(id, request))
            time.sleep(ARRIVAL_INTERVAL)

    threading.Thread(target=submit).start()
    while timeline.ended < len(requests):
        engine.scheduler.wait()
        engine.step()
    return timeline
