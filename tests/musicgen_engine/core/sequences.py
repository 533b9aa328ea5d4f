"""Sequences, and a scheduler for them, without a model."""

import math
from typing import Any, cast

import numpy as np

from musicgen_engine.core.audio_stream import AudioStream
from musicgen_engine.core.queue import Queue
from musicgen_engine.core.scheduler import Scheduler
from musicgen_engine.core.sequence import Sequence
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.delay_pattern import DelayPattern
from protocol.request import GenerationRequest

PATTERN = DelayPattern((0, 1, 2, 3), special_token=2048, window=1500)


def new(id: int) -> Sequence:
    return Sequence(id, GenerationRequest(prompt="", frames=50, seed=0))


def resumed(id: int, frames: int = 50, done: int = 20, arrival_time: int = 1) -> Sequence:
    """A sequence that lost its engine after `done` frames."""
    codes = np.zeros((4, done), np.int32)
    request = GenerationRequest("", frames, seed=0, codes=codes, arrival_time=arrival_time)
    return Sequence(id, request)


class Output:
    """An audio stream that never has enough frames, or always."""

    def __init__(self, ready: bool = False) -> None:
        self._ready = ready

    def ready(self, frames_done: int) -> bool:
        return self._ready


def begin(sequence: Sequence, ready: bool = False) -> None:
    """Do as the engine when it encodes the sequence."""
    output = cast(AudioStream, Output(ready))
    sequence.begin(PATTERN, sequence.request.codes, output)
    while section := sequence.section_to_encode:
        sequence.condition(sequence.scope_of(section), Conditioning((None, None)))


def record(scheduler: Scheduler, seconds: float, count: int = 20) -> None:
    for _ in range(count):
        scheduler.queue.record_step(seconds)


def engine_of(queue: Queue, slots: int, **settings: Any) -> Scheduler:
    return Scheduler(queue, slots, PATTERN.window, **settings)


def scheduler(slots: int, max_queue: int, *ids: int, **settings: Any) -> Scheduler:
    opened = engine_of(Queue(max_queue), slots, **settings)
    for id in ids:
        opened.queue.submit(new(id))
    return opened


def admitted(scheduler: Scheduler, steps: int = 5) -> list[Sequence]:
    """The sequences that get a slot in the next steps, in order."""
    found: list[Sequence] = []
    for _ in range(steps):
        batch = scheduler.schedule()
        if batch.encode and batch.encode not in found:
            found.append(batch.encode)
            begin(batch.encode)
    return found


def ids(sequences: list[Sequence]) -> list[int]:
    return [sequence.id for sequence in sequences]


def in_a_mix(id: int, frames: int = 50) -> Sequence:
    """A sequence whose melody has to be taken out of a mix."""
    mix = np.ones((1, 32_000), np.float32)
    return Sequence(id, GenerationRequest("", frames, seed=0, melody=mix))


MELODY = np.zeros((1, 32_000), np.float32)


def several(*slots: int, max_queue: int = 9, max_wait: float = math.inf) -> list[Scheduler]:
    """Engines of one queue."""
    queue = Queue(max_queue, max_wait)
    return [engine_of(queue, count) for count in slots]
