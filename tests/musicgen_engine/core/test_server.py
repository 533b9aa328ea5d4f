"""The real engine process, at the other end of its channel."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musicgen_engine.channel import Channel, Message
from musicgen_engine.config import Placement
from tests.conftest import ROOT

SLOTS, QUEUE = 16, 32


@contextmanager
def engine(folder: Path, checkpoint: str = "") -> Iterator[Channel]:
    ours, theirs = Pipe()
    placement = json.dumps(asdict(Placement(device="cpu")))
    module = [sys.executable, "-m", "musicgen_engine.core"]
    command = [*module, str(folder), checkpoint, placement, str(theirs.fileno())]
    patient = {**os.environ, "MAX_WAIT": "3600"}  # however slow this machine is
    with subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT, env=patient):
        theirs.close()
        channel = Channel(ours)
        yield channel
        channel.close()  # which ends it


@pytest.fixture(scope="module")
def busy(tiny_checkpoint: Path) -> Iterator[Channel]:
    """Plays as many long songs as it can, and as many wait as may."""
    with engine(tiny_checkpoint) as channel:
        list(until(channel, "state", state="ready"))
        for id in range(SLOTS + QUEUE):
            send(channel, id)
            list(until(channel, "status", id=id))
        yield channel


def send(channel: Channel, id: int, payload: bytes = b"", **rows: int) -> None:
    song = {"prompt": "jazz", "frames": 6_000, "seed": 1}
    named = {"kind": "song", "id": id, "request_id": "", "song": song}
    channel.send({**named, "codebooks": 0, "channels": 0, **rows}, payload)


def until(channel: Channel, kind: str, **fields: Any) -> Iterator[Message]:
    """What comes, up to a message with these fields."""
    began = time.monotonic()
    while time.monotonic() - began < 60:
        message, _ = channel.receive()
        yield message
        if message["kind"] == kind and all(message[key] == fields[key] for key in fields):
            return
    pytest.fail(f"no {kind} with {fields}")


def test_a_refusal_costs_nobody_else_a_message(busy: Channel) -> None:
    """All songs' statuses come with the measures, every second."""
    heard: list[Message] = []
    for id in range(1000, 1020):
        send(busy, id)
        heard += until(busy, "error", id=id, code="queue_full")
    beats = sum(message["kind"] == "measures" for message in heard)
    statuses = sum(message["kind"] == "status" for message in heard)
    assert statuses <= (beats + 1) * (SLOTS + QUEUE)


def test_a_song_that_the_model_cannot_make_is_refused_before_it_waits(busy: Channel) -> None:
    send(busy, 2000, np.zeros((3, 10), np.int32).tobytes(), codebooks=3)
    list(until(busy, "error", id=2000, code="invalid_input"))


def test_a_checkpoint_that_can_be_nowhere_is_a_reason(tmp_path: Path) -> None:
    with engine(tmp_path, "facebook/musicgen--small") as channel:
        [*_, state] = until(channel, "state", state="failed")
        assert state["code"] == "weights_missing"
        assert "musicgen--small" in state["message"]
