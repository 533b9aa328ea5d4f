"""The real engine process, at the other end of its channel."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musicgen_engine.channel import Channel
from musicgen_engine.config import ModelConfig
from musicgen_engine.messages import (
    Cancel,
    Change,
    ChunkReport,
    DoneState,
    EngineReport,
    FailedState,
    FailureReport,
    LoadingState,
    MetricsReport,
    QueuedState,
    ReadyState,
    SequenceReport,
    Submit,
)
from protocol.constants import UNKNOWN
from protocol.request import GenerationRequest
from tests.conftest import ROOT, TIMEOUT, needs_native
from tests.conftest import until as eventually

SLOTS, QUEUE = 16, 32
LONG = GenerationRequest("jazz", frames=100_000, seed=1)


@contextmanager
def engine(
    folder: Path, checkpoint: str = "", module: str = "musicgen_engine.core", exit_code: int = 0
) -> Iterator[Channel]:
    ours, theirs = Pipe()
    config = json.dumps(asdict(ModelConfig(device="cpu")))
    arguments = [str(folder), checkpoint, config, str(theirs.fileno())]
    command = [sys.executable, "-m", module, *arguments]
    patient = {**os.environ, "MAX_WAIT": "3600"}  # however slow this machine is
    with subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT, env=patient) as process:
        theirs.close()
        channel = Channel(ours)
        try:
            yield channel
        finally:
            channel.close()
        assert process.wait(TIMEOUT) == exit_code  # it ends with its stub


def until(channel: Channel, condition: Callable[[Any], bool]) -> list[Any]:
    """The messages up to the one that fulfils the condition."""
    start, messages = time.monotonic(), []
    while time.monotonic() - start < TIMEOUT:
        messages.append(channel.receive())
        if condition(messages[-1]):
            return messages
    pytest.fail("it did not happen in time")


def report_of(id: int) -> Callable[[Any], bool]:
    return lambda message: isinstance(message, SequenceReport) and message.id == id


def failure_of(id: int) -> Callable[[Any], bool]:
    return lambda message: isinstance(message, FailureReport) and message.id == id


def is_state(kind: type | tuple[type, ...]) -> Callable[[Any], bool]:
    return lambda message: isinstance(message, EngineReport) and isinstance(message.state, kind)


def is_metrics(message: Any) -> bool:
    return isinstance(message, MetricsReport)


@pytest.fixture(scope="module")
def loaded(tiny_checkpoint: Path) -> Iterator[Channel]:
    with engine(tiny_checkpoint) as channel:
        until(channel, is_state(ReadyState))
        yield channel


@needs_native
def test_a_song_arrives_as_typed_messages(loaded: Channel) -> None:
    loaded.send(Submit(5000, "mine", GenerationRequest("jazz", frames=60, seed=1)))
    messages = until(loaded, lambda message: isinstance(message, ChunkReport) and message.last)
    chunks = [message for message in messages if isinstance(message, ChunkReport)]
    assert sum(chunk.audio.shape[1] for chunk in chunks) == 60 * 640
    assert sum(chunk.codes.shape[1] for chunk in chunks) == 60
    assert chunks[0].audio.dtype == np.float32 and chunks[0].codes.dtype == np.int32
    assert chunks[-1].state == DoneState(60, 60)
    reports = [message for message in messages if isinstance(message, EngineReport)]
    ready = reports[-1].state
    assert (reports[0].running, reports[-1].running) in ((0, 0), (1, 0))
    assert isinstance(ready, ReadyState) and ready.revision == chunks[0].revision
    assert (ready.device, ready.precision, ready.backend) == ("cpu", "float32", "native")
    assert (ready.fallback, ready.slots, ready.channels) == (None, SLOTS, 1)


@pytest.fixture(scope="module")
def busy(loaded: Channel) -> Channel:
    """An engine that runs as many long songs as it can, with a full queue."""
    for id in range(SLOTS + QUEUE):
        loaded.send(Submit(id, "", LONG))
        until(loaded, report_of(id))
    until(loaded, lambda message: is_metrics(message) and message.values["running"] == SLOTS)
    return loaded


def test_a_refusal_costs_the_others_no_message(busy: Channel) -> None:
    """The reports of all songs come with the metrics, every second."""
    messages = []
    for id in range(1000, 1020):
        busy.send(Submit(id, "", LONG))
        messages += until(busy, failure_of(id))
        assert messages[-1].reason.code == "queue_full"
        assert messages[-1].reason.retry_after >= 1
    metrics = sum(map(is_metrics, messages))
    reports = sum(isinstance(message, SequenceReport) for message in messages)
    assert reports <= (metrics + 1) * (SLOTS + QUEUE)


def test_a_full_engine_says_for_how_long(busy: Channel) -> None:
    assert until(busy, is_state(ReadyState))[-1].full_for >= 1


def test_a_song_is_reported_again_while_nothing_changes(busy: Channel) -> None:
    reports = [until(busy, report_of(SLOTS + QUEUE - 1))[-1] for _ in range(3)]
    assert len(set(reports)) == 1 and isinstance(reports[0].state, QueuedState)


def test_a_request_that_does_not_fit_is_refused_at_once(busy: Channel) -> None:
    codes = np.zeros((3, 10), np.int32)
    busy.send(Submit(2000, "", GenerationRequest("jazz", frames=6_000, codes=codes)))
    failed = until(busy, failure_of(2000))[-1].reason
    assert (failed.code, failed.field) == ("invalid_field", "codes")


@needs_native
def test_metrics_are_reported(busy: Channel) -> None:
    report = until(busy, is_metrics)[-1]
    assert (report.values["slots"], report.values["queued"]) == (SLOTS, QUEUE)
    assert report.values["memory"] > 1e6
    assert report.values["backend_fallback"] == 0


@pytest.mark.parametrize("id", [0, SLOTS + QUEUE - 1])
def test_a_cancelled_song_fails_running_or_queued(busy: Channel, id: int) -> None:
    busy.send(Cancel(id))
    assert until(busy, failure_of(id))[-1].reason.code == "cancelled"


def test_a_song_does_not_change_while_its_model_loads(tiny_checkpoint: Path) -> None:
    """Nothing knows yet whether the model can make it so."""
    long_text = (("prompt", "\ufdfa" * 2000),)  # of too many tokens
    with engine(tiny_checkpoint) as channel:
        channel.send(Submit(1, "", LONG))
        channel.send(Change(2, 1, long_text))
        assert until(channel, failure_of(2))[-1].reason.code == "model_loading"
        until(channel, is_state(ReadyState))
        channel.send(Change(3, 1, long_text))
        refused = until(channel, failure_of(3))[-1].reason
        assert refused.code == "invalid_field" and "tokens of text; shorten it" in refused.message
        until(channel, lambda message: isinstance(message, ChunkReport))


def test_a_song_that_does_not_fit_fails_alone_once_loaded(melody_checkpoint: Path) -> None:
    """It came while the model loaded, and waits unchecked until then."""
    song = GenerationRequest("jazz", frames=3000, seed=1)
    partly_known = np.full((1, 235), UNKNOWN, np.int32)  # of a song with several windows
    wrong = {
        "extend_stride": replace(song, extend_stride=30.0),
        "codes": replace(song, codes=np.zeros((3, 10), np.int32)),
        "chroma": replace(song, melody=np.ones((1, 32_000), np.float32), chroma=partly_known),
    }
    with engine(melody_checkpoint) as channel:
        for id, request in enumerate(wrong.values()):
            channel.send(Submit(id, "", request))
        channel.send(Submit(len(wrong), "", replace(song, frames=3)))
        messages = until(channel, lambda message: isinstance(message, ChunkReport))
    fields = [one.reason.field for one in messages if isinstance(one, FailureReport)]
    assert {*fields} == {*wrong} and len(fields) == len(wrong)


def test_a_checkpoint_that_cannot_exist_is_a_reason(tmp_path: Path) -> None:
    with engine(tmp_path, "facebook/musicgen--small") as channel:
        messages = until(channel, is_state(FailedState))
    assert all(
        isinstance(m.state, LoadingState) for m in messages[:-1] if isinstance(m, EngineReport)
    )
    failed = messages[-1].state
    assert failed.code == "weights_missing"
    assert "musicgen--small" in failed.message


def test_a_model_that_cannot_make_a_song_is_not_ready(tiny_checkpoint: Path) -> None:
    with engine(tiny_checkpoint, module="tests.musicgen_engine.core.broken_engine") as channel:
        failed = until(channel, is_state((FailedState, ReadyState)))[-1].state
    assert isinstance(failed, FailedState)
    assert failed.code == "engine_unavailable" and "output is not finite" in failed.message


def is_gone(channel: Channel) -> bool:
    try:
        channel.send(Cancel(2))
    except OSError:
        return True
    return False


def test_an_engine_ends_when_its_stub_no_longer_reads(tiny_checkpoint: Path) -> None:
    """A song that is sent notices it first. `engine` sees the exit code."""
    with engine(tiny_checkpoint) as channel:
        until(channel, is_state(ReadyState))
        channel.send(Submit(1, "", LONG))
        until(channel, lambda message: isinstance(message, ChunkReport))
        with socket.socket(fileno=os.dup(channel._connection.fileno())) as end:
            end.shutdown(socket.SHUT_RD)
        eventually(lambda: is_gone(channel))
