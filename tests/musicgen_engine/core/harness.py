"""The real engine without its process: requests in, results out."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import wait
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from musicgen_engine.core.audio_stream import AudioChunk
from musicgen_engine.core.engine import Engine
from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.core.queue import Queue
from musicgen_engine.core.separation import separate
from musicgen_engine.core.sequence import Sequence
from musicgen_engine.model.backend import Backend
from musicgen_engine.model.decoder import HostDecoder
from musicgen_engine.model.sampler import Sampler
from protocol.constants import Codes, Samples
from protocol.errors import ServiceError
from protocol.request import GenerationRequest
from protocol.section import Section


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


def decoding_by(model: LoadedModel, backend: Backend) -> LoadedModel:
    """The model with another backend."""
    pattern = model.pattern
    sampler = Sampler(model.slots, pattern.codebooks, pattern.special_token, model.device)
    return replace(model, decoder=HostDecoder(backend, sampler))


def changed(request: GenerationRequest, frame: int, **later: Any) -> GenerationRequest:
    """The request with other fields from `frame` on."""
    names = [field.name for field in fields(Section)]
    section = Section(*(getattr(request, name) for name in names))
    first, rest = replace(section, frames=frame), replace(section, frames=request.frames - frame)
    return replace(request, sections=(first, replace(rest, **later)))
