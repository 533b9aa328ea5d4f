"""The engine process dies and comes back; nobody waits for ever.

The engine is a real child process that speaks the real channel: this file itself, run as a script.
What it does is the prompt of the song; what it plays is as long as START, and its codes are those
that it was given.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from musicgen_engine.channel import Channel
from musicgen_engine.stub.engine_process import EngineProcess, Measures
from protocol.errors import (
    EngineUnavailable,
    GenerationFailed,
    ServiceError,
    WeightsMissing,
)
from protocol.request import Codes, Samples, Song
from tests.conftest import descendants, until

LARGE = 10_000_000  # bytes, which no buffer between two processes takes


def engine(mode: str, socket: str) -> None:
    channel = Channel(Connection(int(socket)))
    if mode == "fail":
        state = {"kind": "state", "state": "failed", "code": "weights_missing", "message": "none"}
        return channel.send(state)
    if mode == "crash":
        sys.exit(3)
    channel.send({"kind": "state", "state": "ready", "pid": os.getpid()})
    deaf: set[int] = set()
    while True:
        try:
            message, payload = channel.receive()
        except EOFError:
            return
        id = message["id"]
        if message["kind"] == "cancel" and id in deaf:
            deaf.remove(id)
        elif message["kind"] == "cancel":
            channel.send({"kind": "error", "id": id, "code": "cancelled", "message": "stopped"})
        elif message["song"]["prompt"] == "die":
            os.abort()
        elif message["song"]["prompt"] == "hear late":
            deaf.add(id)
        elif message["song"]["prompt"] in ("play", "play long"):
            if message["song"]["prompt"] == "play long":
                time.sleep(0.5)  # meanwhile the next song fills the way
            channel.send({"kind": "measures", "measures": {"running": 1, "steps": 7}})
            name = message["request_id"]
            channel.send(
                {"kind": "status", "id": id, "status": {"state": "generating", "of": name}}
            )
            audio = np.ones((2, message["song"]["start"]), np.float32)
            sizes = {
                "channels": 2,
                "samples": audio.shape[1],
                "codebooks": message["codebooks"] or 4,
            }
            chunk = {"kind": "chunk", "id": id, **sizes, "sample_rate": 32000, "last": True}
            chunk["revision"] = "abc"
            channel.send({**chunk, "status": {}}, audio.tobytes() + payload)
            late = {"kind": "status", "id": id, "status": {"state": "too late"}}
            channel.send(late, bytes(LARGE if message["song"]["prompt"] == "play long" else 0))


class Start(Protocol):
    def __call__(self, mode: str, python: Path = ...) -> EngineProcess: ...


class Recorder:
    """A listener that remembers."""

    request_id = "mine"

    def __init__(self) -> None:
        self.cancelled = False
        self.statuses: list[dict[str, Any]] = []
        self.audio: Samples | None = None
        self.codes: Codes | None = None
        self.failure: ServiceError | None = None
        self.ended = threading.Event()

    def status(self, status: dict[str, Any]) -> None:
        self.statuses.append(status)

    def chunk(
        self,
        audio: Samples,
        codes: Codes,
        sample_rate: int,
        revision: str,
        status: dict[str, Any],
        last: bool,
    ) -> None:
        self.audio, self.codes = audio, codes
        self.ended.set()

    def error(self, error: ServiceError) -> None:
        self.failure = error
        self.ended.set()


class Broken(Recorder):
    """Cannot be reached."""

    def chunk(self, *_: Any) -> None:
        raise RuntimeError("no room for the tensor")


@pytest.fixture
def told() -> list[Measures]:
    """What the engines said of themselves."""
    return []


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, told: list[Measures]) -> Iterator[Start]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    started: list[EngineProcess] = []

    def start(mode: str, python: Path = Path(sys.executable)) -> EngineProcess:
        started.append(EngineProcess([str(python), __file__, mode], told.append))
        return started[-1]

    yield start
    for process in started:
        process.stop()


def song(prompt: str) -> Song:
    codes = np.arange(12, dtype=np.int32).reshape(4, 3)
    return Song(prompt=prompt, frames=5, seed=0, codes=codes, start=1280)


def play(process: EngineProcess, prompt: str) -> Recorder:
    recorder = Recorder()
    process.submit(song(prompt), recorder)
    return recorder


def test_a_song_comes_back_whole(start: Start) -> None:
    recorder = play(start("serve"), "play")
    assert recorder.ended.wait(20)
    assert recorder.audio is not None and recorder.codes is not None
    assert np.array_equal(recorder.audio, np.ones((2, 1280)))
    assert np.array_equal(recorder.codes, np.arange(12).reshape(4, 3))
    assert recorder.audio.dtype == np.float32 and recorder.codes.dtype == np.int32
    assert recorder.statuses == [{"state": "generating", "of": "mine"}]


@pytest.mark.parametrize(("held", "samples"), [(0, 0), (0, 640), (3, 0)])
def test_audio_and_codes_may_each_be_empty(start: Start, held: int, samples: int) -> None:
    codes = np.ones((4, held), np.int32) if held else None
    recorder = Recorder()
    start("serve").submit(replace(song("play"), codes=codes, start=samples), recorder)
    assert recorder.ended.wait(20)
    assert recorder.audio is not None and recorder.audio.shape == (2, samples)
    assert recorder.codes is not None and recorder.codes.shape == (4, held)


def test_a_death_tells_everyone_in_flight_at_once_and_the_next_song_is_served(
    start: Start,
) -> None:
    process = start("serve")
    waiting = [play(process, "wait") for _ in range(3)]
    play(process, "die")
    for recorder in waiting:
        assert recorder.ended.wait(20)
        assert isinstance(recorder.failure, EngineUnavailable)
        assert "SIGABRT" in recorder.failure.message
    again = play(process, "play")
    assert again.ended.wait(20)
    assert again.audio is not None


def test_measures_are_handed_on_and_a_dead_engine_has_nothing(
    start: Start, told: list[Measures]
) -> None:
    process = start("serve")
    assert play(process, "play").ended.wait(20)
    assert told == [{"running": 1, "steps": 7}]
    assert play(process, "die").ended.wait(20)
    assert told[1:] == [{"queued": 0, "running": 0, "slots": 0, "memory": 0}]


def test_measures_that_cannot_be_told_cost_no_song(monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(_: Measures) -> None:
        raise RuntimeError("Triton has no place for it")

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    process = EngineProcess([sys.executable, __file__, "serve"], tell)
    try:
        assert play(process, "die").ended.wait(20)
        again = play(process, "play")
        assert again.ended.wait(20) and again.audio is not None
    finally:
        process.stop()


def test_an_engine_that_keeps_dying_refuses_songs_with_the_reason(start: Start) -> None:
    process = start("crash")
    until(lambda: process.status()["state"] == "failed")
    with pytest.raises(EngineUnavailable, match="exit code 3"):
        process.submit(song("play"), Recorder())


def test_what_the_engine_says_of_its_failure_is_the_reason(start: Start) -> None:
    process = start("fail")
    until(lambda: process.status()["state"] == "failed")
    with pytest.raises(WeightsMissing, match="none"):
        process.submit(song("play"), Recorder())


def test_a_failed_engine_is_tried_again(start: Start) -> None:
    process = start("crash")
    until(lambda: process.status()["state"] == "failed")
    until(lambda: process.status()["state"] == "loading")


def test_a_cancelled_song_ends_while_others_go_on(start: Start) -> None:
    process = start("serve")
    cancelled, other = play(process, "wait"), play(process, "wait")
    cancelled.cancelled = True
    assert cancelled.ended.wait(20)
    assert cancelled.failure and cancelled.failure.code == "cancelled"
    assert not other.ended.is_set()


def test_a_client_that_cannot_be_reached_costs_nobody_else_a_song(start: Start) -> None:
    process = start("serve")
    broken = Broken()
    process.submit(song("play"), broken)
    assert broken.ended.wait(20)
    assert isinstance(broken.failure, GenerationFailed)
    other = play(process, "play")
    assert other.ended.wait(20)
    assert other.audio is not None


def test_a_cancel_is_repeated_until_it_is_heard(start: Start) -> None:
    cancelled = play(start("serve"), "hear late")
    cancelled.cancelled = True
    assert cancelled.ended.wait(20)
    assert cancelled.failure and cancelled.failure.code == "cancelled"


def test_an_undelivered_song_is_no_deadlock_with_one_that_is_on_its_way(start: Start) -> None:
    process = start("serve")
    until(lambda: process.status()["state"] == "ready")
    broken, large = Broken(), Recorder()
    process.submit(song("play long"), broken)
    codes = np.zeros((4, LARGE // 16), np.int32)
    process.submit(replace(song("play"), codes=codes), large)
    assert broken.ended.wait(20)
    assert large.ended.wait(20)
    assert large.codes is not None and large.codes.shape == codes.shape


def test_an_engine_that_cannot_be_started_is_said_and_tried_again(
    tmp_path: Path, start: Start
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    process = start("serve", python)
    until(lambda: process.status()["state"] == "ready")
    python.rename(away := tmp_path / "away")
    play(process, "die")
    until(lambda: process.status()["state"] == "failed")
    with pytest.raises(EngineUnavailable, match="cannot be started"):
        process.submit(song("play"), Recorder())
    away.rename(python)
    until(lambda: process.status()["state"] == "ready")
    assert play(process, "play").ended.wait(20)


def test_stopping_is_final_whenever_it_comes(start: Start) -> None:
    for mode in ("crash", "fail", "serve"):
        process = start(mode)
        time.sleep(0.3)
        process.stop()
        assert not any(__file__ in line for line in descendants(os.getpid()).values())


def test_the_engine_ends_with_its_stub(start: Start) -> None:
    process = start("serve")
    pid = until(lambda: process.status().get("pid"))
    process.stop()
    assert not Path(f"/proc/{pid}").exists()


if __name__ == "__main__":
    engine(*sys.argv[1:])
