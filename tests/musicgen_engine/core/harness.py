"""The real engine without its process: requests in, results out."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from collections.abc import Sequence as Many
from concurrent.futures import wait
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from musicgen_engine.core.audio_stream import AudioChunk
from musicgen_engine.core.engine import Engine
from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.core.queue import Queue
from musicgen_engine.core.separation import separate
from musicgen_engine.core.sequence import Sequence
from musicgen_engine.messages import Change
from musicgen_engine.model.backend import Backend, ModelInput
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.decoder import HostDecoder
from musicgen_engine.model.sampler import Sampler
from protocol.constants import Codes, Samples
from protocol.errors import ServiceError
from protocol.request import GenerationRequest


@dataclass
class Result:
    """The engine's output for one request."""

    sequence: Sequence
    chunks: list[AudioChunk] = field(default_factory=list)
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


class Harness:
    def __init__(self, model: LoadedModel, max_queue: int = 32) -> None:
        self.queue = Queue(max_queue)
        self.engine = Engine(model, self.queue, self)
        self._results: dict[int, Result] = {}
        self.changes: list[int | ServiceError] = []  # frames, or why there was no change
        threading.Thread(target=self._separate, args=[model], daemon=True).start()

    def _separate(self, model: LoadedModel) -> None:
        while True:
            separate(self.queue, model)

    def submit(self, request: GenerationRequest) -> Result:
        result = Result(Sequence(len(self._results), request))
        self.queue.submit(result.sequence)
        self._results[result.sequence.id] = result
        return result

    def run(self) -> None:
        """Step until every request has ended."""
        while not all(result.ended for result in self._results.values()):
            self.engine.scheduler.wait()
            self.step()

    def step(self) -> int:
        """A step of the engine and the encoding that it began: so a test can count steps."""
        positions = self.engine.step()
        if encoding := self.engine.scheduler.encoding:
            wait([encoding.result])
        return positions

    def chunk(self, sequence: Sequence, chunk: AudioChunk) -> None:
        assert not self._results[sequence.id].ended
        self._results[sequence.id].chunks.append(chunk)

    def error(self, sequence: Sequence, error: ServiceError) -> None:
        assert not self._results[sequence.id].ended
        self._results[sequence.id].error = error

    def change(self, result: Result, **values: Any) -> None:
        """Ask for a change of a song; its outcome comes to `changes`."""
        change = Change(len(self.changes), result.sequence.id, tuple(values.items()))
        try:
            if made := self.queue.change(change, lambda request: None):
                sequence, frame = made
                self.changed(sequence, change, frame)
        except ServiceError as error:
            self.refused(change, error)

    def changed(self, sequence: Sequence, change: Change, frame: int) -> None:
        self.changes.append(frame)

    def refused(self, change: Change, error: ServiceError) -> None:
        self.changes.append(error)


def generate(model: LoadedModel, request: GenerationRequest) -> Result:
    """The result of a request that is alone in its batch."""
    harness = Harness(model)
    result = harness.submit(request)
    harness.run()
    return result


def generate_together(
    model: LoadedModel, requests: Mapping[int, GenerationRequest]
) -> list[Result]:
    """The results of requests that join the batch at the given steps."""
    harness = Harness(model)
    results = []
    for step in range(max(requests) + 1):
        if step in requests:
            results.append(harness.submit(requests[step]))
        harness.step()
    harness.run()
    return results


class Relay:
    """A backend that passes everything on to another one."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def set_conditioning(self, slot: int, conditioning: Conditioning) -> Many[int]:
        return self.backend.set_conditioning(slot, conditioning)

    def copy_row(self, source: int, slot: int, row: int, end: int) -> None:
        self.backend.copy_row(source, slot, row, end)

    def forward(self, batch: ModelInput) -> Tensor:
        return self.backend.forward(batch)


def decoding_by(model: LoadedModel, backend: Backend) -> LoadedModel:
    """The model with another backend."""
    pattern = model.pattern
    sampler = Sampler(model.slots, pattern.codebooks, pattern.special_token, model.device)
    return replace(model, decoder=HostDecoder(backend, sampler))
