"""The engine process dies and comes back; every request gets its end.

The engine is a real child process that speaks the real channel: this file itself, run as a script.
The prompt of a request says what the engine does with it. Its audio is as long as START, and its
codes are those of the request.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from musicgen_engine.channel import Channel
from musicgen_engine.messages import (
    Cancel,
    Chunk,
    Done,
    EngineReport,
    Failed,
    Failure,
    Generating,
    Loading,
    MetricsReport,
    Queued,
    Ready,
    SequenceReport,
    SequenceState,
)
from musicgen_engine.metrics import GAUGES
from musicgen_engine.stub.engine_process import EngineProcess
from protocol.errors import (
    Cancelled,
    EngineUnavailable,
    GenerationFailed,
    ServiceError,
    WeightsMissing,
)
from protocol.request import GenerationRequest
from tests.conftest import descendants, until

LARGE = 10_000_000  # bytes: more than any buffer between two processes


def engine(mode: str, socket: str) -> None:
    channel = Channel(Connection(int(socket)))
    if mode == "fail":
        failed = Failed.of(WeightsMissing("none"))
        return channel.send(EngineReport(failed, queued=0, running=0))
    if mode == "crash":
        sys.exit(3)
    ready = Ready(str(os.getpid()), "cpu", "float32", "packed", None, 16, 2, 4, 32_000)
    channel.send(EngineReport(ready, queued=0, running=0))
    deaf: set[int] = set()
    while True:
        try:
            message = channel.receive()
        except EOFError:
            return
        id = message.id
        if isinstance(message, Cancel):
            if id in deaf:
                deaf.remove(id)
            else:
                channel.send(Failure(id, Failed.of(Cancelled("stopped"))))
            continue
        request: GenerationRequest = message.request
        if request.prompt == "die":
            os.abort()
        elif request.prompt == "hear late":
            deaf.add(id)
        elif request.prompt in ("play", "play long"):
            if request.prompt == "play long":
                time.sleep(0.5)  # meanwhile the next request fills the channel
            channel.send(MetricsReport({"running": 1, "steps": 7}))
            channel.send(SequenceReport(id, Generating(3, len(message.request_id))))
            audio = np.ones((2, request.start), np.float32)
            codes = np.zeros((4, 0), np.int32) if request.codes is None else request.codes
            done = Done(request.frames, request.frames)
            channel.send(Chunk(id, audio, codes, "abc", done, last=True))
            late = SequenceReport(id, Queued(1))
            channel.send(late)
            if request.prompt == "play long":
                long = np.zeros((1, LARGE // 4), np.float32)
                channel.send(Chunk(id, long, codes, "abc", done, last=True))


class Start(Protocol):
    def __call__(self, mode: str, python: Path = ...) -> EngineProcess: ...


class Recorder:
    """A sink that remembers."""

    request_id = "mine"

    def __init__(self) -> None:
        self.cancelled = False
        self.states: list[SequenceState] = []
        self.received: Chunk | None = None
        self.failure: ServiceError | None = None
        self.ended = threading.Event()

    def status(self, state: SequenceState) -> None:
        self.states.append(state)

    def chunk(self, chunk: Chunk) -> None:
        self.received = chunk
        self.ended.set()

    def error(self, error: ServiceError) -> None:
        self.failure = error
        self.ended.set()


class Broken(Recorder):
    """A sink whose client cannot be reached."""

    def chunk(self, chunk: Chunk) -> None:
        raise RuntimeError("no room for the tensor")


@pytest.fixture
def metrics() -> list[Mapping[str, float]]:
    """The metrics that the engines reported."""
    return []


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, metrics: list[Mapping[str, float]]) -> Iterator[Start]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    started: list[EngineProcess] = []

    def start(mode: str, python: Path = Path(sys.executable)) -> EngineProcess:
        started.append(EngineProcess([str(python), __file__, mode], metrics.append))
        return started[-1]

    yield start
    for process in started:
        process.stop()


def request_to(prompt: str) -> GenerationRequest:
    codes = np.arange(12, dtype=np.int32).reshape(4, 3)
    return GenerationRequest(prompt=prompt, frames=5, seed=0, codes=codes, start=1280)


def submit(process: EngineProcess, prompt: str) -> Recorder:
    recorder = Recorder()
    process.submit(request_to(prompt), recorder)
    return recorder


def is_state(process: EngineProcess, kind: type) -> bool:
    return isinstance(process.report().state, kind)


def test_a_song_arrives_whole(start: Start) -> None:
    recorder = submit(start("serve"), "play")
    assert recorder.ended.wait(20)
    chunk = recorder.received
    assert chunk and np.array_equal(chunk.audio, np.ones((2, 1280)))
    assert np.array_equal(chunk.codes, np.arange(12).reshape(4, 3))
    assert chunk.audio.dtype == np.float32 and chunk.codes.dtype == np.int32
    assert (chunk.revision, chunk.state, chunk.last) == ("abc", Done(5, 5), True)
    assert recorder.states == [Generating(3, len("mine"))]


@pytest.mark.parametrize(("held", "samples"), [(0, 0), (0, 640), (3, 0)])
def test_audio_and_codes_may_each_be_empty(start: Start, held: int, samples: int) -> None:
    codes = np.ones((4, held), np.int32) if held else None
    recorder = Recorder()
    start("serve").submit(replace(request_to("play"), codes=codes, start=samples), recorder)
    assert recorder.ended.wait(20)
    chunk = recorder.received
    assert chunk and chunk.audio.shape == (2, samples)
    assert chunk.codes.shape == (4, held)


def test_a_death_ends_every_request_and_the_next_is_served(start: Start) -> None:
    process = start("serve")
    waiting = [submit(process, "wait") for _ in range(3)]
    submit(process, "die")
    for recorder in waiting:
        assert recorder.ended.wait(20)
        assert isinstance(recorder.failure, EngineUnavailable)
        assert "SIGABRT" in recorder.failure.message
    again = submit(process, "play")
    assert again.ended.wait(20)
    assert again.received


def test_metrics_are_passed_on_and_a_dead_engine_has_zeros(
    start: Start, metrics: list[Mapping[str, float]]
) -> None:
    process = start("serve")
    assert submit(process, "play").ended.wait(20)
    assert metrics == [{"running": 1, "steps": 7}]
    assert submit(process, "die").ended.wait(20)
    assert metrics[1:] == [dict.fromkeys(GAUGES, 0)]


def test_metrics_that_cannot_be_updated_cost_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def update(_: Mapping[str, float]) -> None:
        raise RuntimeError("Triton has no place for it")

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    process = EngineProcess([sys.executable, __file__, "serve"], update)
    try:
        assert submit(process, "die").ended.wait(20)
        again = submit(process, "play")
        assert again.ended.wait(20) and again.received
    finally:
        process.stop()


def test_an_engine_that_keeps_dying_refuses_with_the_reason(start: Start) -> None:
    process = start("crash")
    until(lambda: is_state(process, Failed))
    with pytest.raises(EngineUnavailable, match="exit code 3"):
        process.submit(request_to("play"), Recorder())


def test_the_reason_is_what_the_engine_reported(start: Start) -> None:
    process = start("fail")
    until(lambda: is_state(process, Failed))
    with pytest.raises(WeightsMissing, match="none"):
        process.submit(request_to("play"), Recorder())


def test_a_failed_engine_is_started_again(start: Start) -> None:
    process = start("crash")
    until(lambda: is_state(process, Failed))
    until(lambda: is_state(process, Loading))


def test_a_cancelled_request_ends_and_others_go_on(start: Start) -> None:
    process = start("serve")
    cancelled, other = submit(process, "wait"), submit(process, "wait")
    cancelled.cancelled = True
    assert cancelled.ended.wait(20)
    assert isinstance(cancelled.failure, Cancelled)
    assert not other.ended.is_set()


def test_a_client_that_cannot_be_reached_ends_alone(start: Start) -> None:
    process = start("serve")
    broken = Broken()
    process.submit(request_to("play"), broken)
    assert broken.ended.wait(20)
    assert isinstance(broken.failure, GenerationFailed)
    other = submit(process, "play")
    assert other.ended.wait(20)
    assert other.received


def test_a_cancel_is_repeated_until_the_request_ends(start: Start) -> None:
    cancelled = submit(start("serve"), "hear late")
    cancelled.cancelled = True
    assert cancelled.ended.wait(20)
    assert isinstance(cancelled.failure, Cancelled)


def test_an_undelivered_song_is_no_deadlock_with_a_large_one(start: Start) -> None:
    process = start("serve")
    until(lambda: is_state(process, Ready))
    broken, large = Broken(), Recorder()
    process.submit(request_to("play long"), broken)
    codes = np.zeros((4, LARGE // 16), np.int32)
    process.submit(replace(request_to("play"), codes=codes), large)
    assert broken.ended.wait(20)
    assert large.ended.wait(20)
    assert large.received and large.received.codes.shape == codes.shape


def test_an_engine_that_cannot_start_is_reported_and_retried(tmp_path: Path, start: Start) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    process = start("serve", python)
    until(lambda: is_state(process, Ready))
    python.rename(away := tmp_path / "away")
    submit(process, "die")
    until(lambda: is_state(process, Failed))
    with pytest.raises(EngineUnavailable, match="cannot be started"):
        process.submit(request_to("play"), Recorder())
    away.rename(python)
    until(lambda: is_state(process, Ready))
    assert submit(process, "play").ended.wait(20)


def test_stopping_is_final_at_any_time(start: Start) -> None:
    for mode in ("crash", "fail", "serve"):
        process = start(mode)
        time.sleep(0.3)
        process.stop()
        assert not any(__file__ in line for line in descendants(os.getpid()).values())


def test_the_engine_ends_with_its_stub(start: Start) -> None:
    process = start("serve")
    until(lambda: is_state(process, Ready))
    ready: Any = process.report().state
    process.stop()
    assert not Path(f"/proc/{ready.revision}").exists()


if __name__ == "__main__":
    engine(*sys.argv[1:])
