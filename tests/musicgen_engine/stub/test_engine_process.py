"""The engine process dies and comes back; every request gets its end.

The engine is a real process of a real fork server, and speaks the real channel: fake_engine.py.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from musicgen_engine.messages import (
    ChunkReport,
    DoneState,
    FailedState,
    GeneratingState,
    ReadyState,
    SequenceState,
)
from musicgen_engine.metrics import GAUGES
from musicgen_engine.stub.engine_process import EngineProcess
from musicgen_engine.stub.fork_server import ForkedProcess, ForkServer
from protocol.errors import (
    Cancelled,
    EngineUnavailable,
    GenerationFailed,
    ServiceError,
    WeightsMissing,
)
from protocol.request import GenerationRequest
from tests.conftest import ROOT, TIMEOUT, descendants, until
from tests.musicgen_engine.stub.fake_engine import BABBLE, LARGE

ENGINE = Path(__file__).with_name("fake_engine.py")


class Start(Protocol):
    def __call__(self, mode: str, server: ForkServer | None = None) -> EngineProcess: ...


class Recorder:
    """A sink that remembers."""

    request_id = "mine"

    def __init__(self) -> None:
        self.cancelled = False
        self.states: list[SequenceState] = []
        self.received: ChunkReport | None = None
        self.failure: ServiceError | None = None
        self.ended = threading.Event()

    def status(self, state: SequenceState) -> None:
        self.states.append(state)

    def chunk(self, chunk: ChunkReport) -> None:
        self.received = chunk
        self.ended.set()

    def error(self, error: ServiceError) -> None:
        self.failure = error
        self.ended.set()


class Broken(Recorder):
    """A sink whose client cannot be reached."""

    def chunk(self, chunk: ChunkReport) -> None:
        raise RuntimeError("no room for the tensor")


@pytest.fixture
def metrics() -> list[Mapping[str, float]]:
    """The metrics that the engines reported."""
    return []


class Improving(ForkServer):
    """Its first two engines crash, the next ones serve."""

    forks = 0

    def fork(self, arguments: Sequence[str], channel: int) -> ForkedProcess:
        self.forks += 1
        return super().fork(["crash" if self.forks <= 2 else "serve"], channel)


@contextmanager
def fork_server(
    python: Path = Path(sys.executable), kind: type[ForkServer] = ForkServer
) -> Iterator[ForkServer]:
    """It ends with its owner, which stands for Triton."""
    with pytest.MonkeyPatch.context() as patch, subprocess.Popen(["sleep", "600"]) as owner:
        patch.setenv("PYTHONPATH", str(ROOT))
        try:
            yield kind([str(python), str(ENGINE)], owner.pid)
        finally:
            owner.kill()


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with fork_server() as server:
        yield server


@pytest.fixture
def start(server: ForkServer, metrics: list[Mapping[str, float]]) -> Iterator[Start]:
    started: list[EngineProcess] = []
    shared = server

    def start(mode: str, server: ForkServer | None = None) -> EngineProcess:
        started.append(EngineProcess(server or shared, [mode], metrics.append))
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


def pids(process: EngineProcess) -> list[int]:
    """The process ids of the engine, once it is ready, and of its fork server."""
    until(lambda: is_state(process, ReadyState))
    ready: Any = process.report().state
    return [int(pid) for pid in ready.revision.split()]


def test_a_song_arrives_whole(start: Start) -> None:
    recorder = submit(start("serve"), "play")
    assert recorder.ended.wait(TIMEOUT)
    chunk = recorder.received
    assert chunk and np.array_equal(chunk.audio, np.ones((2, 1280)))
    assert np.array_equal(chunk.codes, np.arange(12).reshape(4, 3))
    assert chunk.audio.dtype == np.float32 and chunk.codes.dtype == np.int32
    assert (chunk.revision, chunk.state, chunk.last) == ("abc", DoneState(5, 5), True)
    assert recorder.states == [GeneratingState(3, len("mine"))]


@pytest.mark.parametrize(("known", "samples"), [(0, 0), (0, 640), (3, 0)])
def test_audio_and_codes_may_each_be_empty(start: Start, known: int, samples: int) -> None:
    codes = np.ones((4, known), np.int32) if known else None
    recorder = Recorder()
    start("serve").submit(replace(request_to("play"), codes=codes, start=samples), recorder)
    assert recorder.ended.wait(TIMEOUT)
    chunk = recorder.received
    assert chunk and chunk.audio.shape == (2, samples)
    assert chunk.codes.shape == (4, known)


def test_a_death_ends_every_request_and_the_next_is_served(start: Start) -> None:
    process = start("serve")
    waiting = [submit(process, "wait") for _ in range(3)]
    submit(process, "die")
    for recorder in waiting:
        assert recorder.ended.wait(TIMEOUT)
        assert isinstance(recorder.failure, EngineUnavailable)
        assert "SIGABRT" in recorder.failure.message
    again = submit(process, "play")
    assert again.ended.wait(TIMEOUT)
    assert again.received


@pytest.mark.parametrize("words", BABBLE)
def test_an_engine_that_cannot_be_understood_is_replaced(start: Start, words: str) -> None:
    process = start("serve")
    waiting = submit(process, "wait")
    submit(process, words)
    assert waiting.ended.wait(TIMEOUT)
    assert isinstance(waiting.failure, EngineUnavailable)
    again = submit(process, "play")
    assert again.ended.wait(TIMEOUT) and again.received


def test_metrics_are_passed_on_and_a_dead_engine_has_zeros(
    start: Start, metrics: list[Mapping[str, float]]
) -> None:
    process = start("serve")
    assert submit(process, "play").ended.wait(TIMEOUT)
    assert metrics == [{"running": 1, "steps": 7}]
    assert submit(process, "die").ended.wait(TIMEOUT)
    assert metrics[1:] == [dict.fromkeys(GAUGES, 0)]


def test_metrics_that_cannot_be_updated_cost_no_request(server: ForkServer) -> None:
    def update(_: Mapping[str, float]) -> None:
        raise RuntimeError("Triton has no place for it")

    process = EngineProcess(server, ["serve"], update)
    try:
        assert submit(process, "die").ended.wait(TIMEOUT)
        again = submit(process, "play")
        assert again.ended.wait(TIMEOUT) and again.received
    finally:
        process.stop()


def test_an_engine_that_keeps_dying_refuses_with_the_reason(start: Start) -> None:
    process = start("crash")
    until(lambda: is_state(process, FailedState))
    with pytest.raises(EngineUnavailable, match="exit code 3"):
        process.submit(request_to("play"), Recorder())


def test_the_reason_is_what_the_engine_reported(start: Start) -> None:
    process = start("fail")
    until(lambda: is_state(process, FailedState))
    with pytest.raises(WeightsMissing, match="none"):
        process.submit(request_to("play"), Recorder())


def test_a_failed_engine_is_started_again(start: Start) -> None:
    with fork_server(kind=Improving) as server:
        process = start("", server)
        until(lambda: is_state(process, FailedState))
        until(lambda: is_state(process, ReadyState))
        process.stop()


def test_a_cancelled_request_ends_and_others_go_on(start: Start) -> None:
    process = start("serve")
    cancelled, other = submit(process, "wait"), submit(process, "wait")
    cancelled.cancelled = True
    assert cancelled.ended.wait(TIMEOUT)
    assert isinstance(cancelled.failure, Cancelled)
    assert not other.ended.is_set()


def test_a_client_that_cannot_be_reached_ends_alone(start: Start) -> None:
    process = start("serve")
    broken = Broken()
    process.submit(request_to("play"), broken)
    assert broken.ended.wait(TIMEOUT)
    assert isinstance(broken.failure, GenerationFailed)
    other = submit(process, "play")
    assert other.ended.wait(TIMEOUT)
    assert other.received


def test_a_cancel_is_repeated_until_the_request_ends(start: Start) -> None:
    cancelled = submit(start("serve"), "hear late")
    cancelled.cancelled = True
    assert cancelled.ended.wait(TIMEOUT)
    assert isinstance(cancelled.failure, Cancelled)


def test_an_undelivered_song_is_no_deadlock_with_a_large_one(start: Start) -> None:
    process = start("serve")
    until(lambda: is_state(process, ReadyState))
    broken, large = Broken(), Recorder()
    process.submit(request_to("play long"), broken)
    codes = np.zeros((4, LARGE // 16), np.int32)
    process.submit(replace(request_to("play"), codes=codes), large)
    assert broken.ended.wait(TIMEOUT)
    assert large.ended.wait(TIMEOUT)
    assert large.received and large.received.codes.shape == codes.shape


def test_the_death_of_the_fork_server_is_named(start: Start) -> None:
    with fork_server() as server:
        process = start("serve", server)
        _, parent = pids(process)
        waiting = submit(process, "wait")
        os.kill(parent, signal.SIGKILL)
        assert waiting.ended.wait(TIMEOUT)
        assert waiting.failure and "the fork server failed" in waiting.failure.message
        process.stop()


def test_an_engine_that_cannot_start_is_reported_and_retried(tmp_path: Path, start: Start) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with fork_server(python) as server:
        process = start("serve", server)
        _, parent = pids(process)
        python.rename(away := tmp_path / "away")
        os.kill(parent, signal.SIGKILL)  # the fork server, with its engine
        until(lambda: is_state(process, FailedState))
        with pytest.raises(EngineUnavailable, match="cannot be started"):
            process.submit(request_to("play"), Recorder())
        away.rename(python)
        until(lambda: is_state(process, ReadyState))
        assert submit(process, "play").ended.wait(TIMEOUT)
        process.stop()


@pytest.mark.parametrize("mode", ["crash", "fail", "serve"])
def test_stopping_is_final_at_any_time(start: Start, mode: str) -> None:
    ready = start("serve")
    _, parent = pids(ready)
    ready.stop()
    process = start(mode)
    time.sleep(0.1)
    process.stop()
    assert not descendants(parent)


def test_the_engine_ends_with_its_stub(start: Start) -> None:
    process = start("serve")
    pid, _ = pids(process)
    process.stop()
    assert not Path(f"/proc/{pid}").exists()
