"""The responses to a request to a variant."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

import numpy as np

from musicgen_engine.messages import ChangeReport, ChunkReport, FailedState, State
from musicgen_engine.stub import tensors
from protocol import tracing
from protocol.constants import SAMPLE_RATE
from protocol.errors import ServiceError
from protocol.section import Section
from protocol.tracing import Stages


class ResponseStream:
    """The responses to one request. It does not keep the request, whose tensors are in shared
    memory: a song takes much longer than reading them."""

    stream = False  # chunks as they come, and every status between them
    frames: int
    seed: int

    def __init__(self, request: Any) -> None:
        self.request_id = tensors.request_id(request)
        self._sender = request.get_response_sender()
        self._stages = Stages(tracing.parent(tensors.parameters_of(request)))
        self._chunks: list[ChunkReport] = []  # kept until the end unless the client streams
        self._cancelled = self._ended = False
        self._lock = threading.Lock()

    @property
    def cancelled(self) -> bool:
        with self._lock:  # after the last response Triton crashes on this question
            return not self._ended and (self._cancelled or bool(self._sender.is_cancelled()))

    def cancel(self) -> None:
        self._cancelled = True

    def status(self, state: State) -> None:
        self._stages.enter(state.state)
        if self.stream:
            self.send({"STATUS": state.json()}, last=False)

    def chunk(self, chunk: ChunkReport) -> None:
        self._chunks.append(chunk)
        self._stages.audio()
        if self.stream or chunk.last:
            outputs = {
                "AUDIO": np.concatenate([chunk.audio for chunk in self._chunks], axis=1),
                "CODES": np.concatenate([chunk.codes for chunk in self._chunks], axis=1),
                "CHROMA": chunk.chroma,
                "TIMELINE": timeline(chunk.sections),
                "SAMPLE_RATE": SAMPLE_RATE,
                "FRAMES": self.frames,
                "SEED": self.seed,
                "REVISION": chunk.revision,
                "STATUS": chunk.state.json(),
            }
            self._chunks.clear()
            self.send(outputs, chunk.last)
        if chunk.last:
            self._stages.end()

    def changed(self, report: ChangeReport) -> None:
        """Another request changed the song."""
        if self.stream:
            self.send({"STATUS": report.json(), "TIMELINE": timeline(report.sections)}, last=False)

    def error(self, error: ServiceError) -> None:
        """A stream gets the error as data first: Triton's own error carries text alone."""
        self._stages.end(error)
        if self.stream:
            with suppress(Exception):  # the error itself must go out
                self.send({"STATUS": FailedState.of(error).json()}, last=False)
        with self._lock:
            tensors.send_error(self._sender, error)
            self._ended = True

    def send(self, outputs: dict[str, Any], last: bool) -> None:
        with self._lock:
            tensors.send(
                self._sender, [tensors.tensor(*output) for output in outputs.items()], last
            )
            self._ended = last


class ChangeResponse:
    """The one response to a request that changes a song. The song's own stream tells it first."""

    cancelled = False

    def __init__(self, response: ResponseStream, song: ResponseStream) -> None:
        self.request_id = response.request_id
        self._response, self._song = response, song

    def changed(self, report: ChangeReport) -> None:
        with suppress(Exception):  # it may just have ended
            self._song.changed(report)
        outputs = {"STATUS": report.json(), "TIMELINE": timeline(report.sections)}
        self._response.send(outputs, last=True)

    def error(self, error: ServiceError) -> None:
        self._response.error(error)


def timeline(sections: tuple[Section, ...]) -> list[dict[str, Any]]:
    return [section.values() for section in sections]
