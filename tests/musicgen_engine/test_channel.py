"""Messages between two processes."""

import threading
import time
from dataclasses import fields
from multiprocessing import Pipe
from typing import Any

import numpy as np
import pytest

from musicgen_engine.channel import Channel
from musicgen_engine.messages import (
    TYPES,
    Cancel,
    Change,
    ChangeReport,
    ChunkReport,
    DoneState,
    EngineReport,
    FailedState,
    FailureReport,
    GeneratingState,
    LoadingState,
    MetricsReport,
    QueuedState,
    ReadyState,
    SeparatingState,
    SequenceReport,
    Submit,
)
from protocol.errors import InvalidField, QueueFull
from protocol.prompt import WeightedText
from protocol.request import GenerationRequest
from protocol.section import Section
from tests.conftest import TIMEOUT

FAILED = FailedState.of(QueueFull("no place; ask again", retry_after=7))
WRONG = InvalidField.of_field("top_k", "is -1; give more", type="integer", minimum=0)
READY = ReadyState(
    "0123456789ab", "cuda:0", "float16", "eager", "fast fails", 8, 2, 8, True, 32_000
)
FULL = GenerationRequest(
    prompt="🎹 \0 ピアノ",
    frames=300,
    seed=2**63 - 1,
    temperature=0.1,
    codes=np.arange(12, dtype=np.int32).reshape(4, 3),
    start=641,
    revision="0123456789ab",
)
CONTINUED = GenerationRequest("", 300, seed=0, prompt_audio=np.linspace(-1, 1, 8, dtype="f4")[None])
FOLLOWING = GenerationRequest("", 300, seed=0, melody=np.ones((2, 9), "f4"), separate=False)
BLEND = (WeightedText("piano", 1.0), WeightedText("choir", 0.5))
PARTS = (Section(BLEND, 1), Section("drums", 2, "piano"))
CHANGING = GenerationRequest("", 3, seed=0, sections=PARTS)
EMPTY = GenerationRequest("", 1, seed=0, codes=np.zeros((4, 0), np.int32))
AUDIO = np.random.default_rng(0).standard_normal((2, 640), np.float32)
CHROMA = np.arange(24, dtype=np.int32).reshape(2, 12) % 12
CODES = np.random.default_rng(1).integers(0, 2048, (8, 25), np.int32)
MESSAGES = [
    Submit(1, "a name", FULL),
    Submit(2, "", CONTINUED),
    Submit(3, "", EMPTY),
    Submit(4, "", CHANGING),
    Submit(4, "", FOLLOWING),
    Cancel(2**40),
    EngineReport(LoadingState(), 0, 0),
    EngineReport(LoadingState(7, 10), 1, 0),
    EngineReport(READY, 1, 2),
    EngineReport(FAILED, 0, 0),
    MetricsReport({"steps": 3.0, "step_seconds": 0.123}),
    SequenceReport(1, QueuedState(3)),
    SequenceReport(1, SeparatingState(2)),
    SequenceReport(1, LoadingState(1, None)),
    SequenceReport(1, GeneratingState(3, 300)),
    SequenceReport(1, DoneState(300, 300)),
    ChunkReport(1, AUDIO, CODES, CHROMA, PARTS, "abc", GeneratingState(25, 300), last=False),
    ChunkReport(1, AUDIO[:, :0], CODES, CHROMA, PARTS, "abc", GeneratingState(25, 300), last=False),
    ChunkReport(1, AUDIO, CODES[:, :0], CHROMA, PARTS, "abc", DoneState(300, 300), last=True),
    ChunkReport(
        1, AUDIO[:, ::2], CODES[::2, 1:], CHROMA, PARTS, "abc", DoneState(300, 300), last=True
    ),
    Change(2, 1, (("prompt", BLEND), ("top_k", 5), ("frames", 3))),
    ChangeReport(2, 60, PARTS),
    FailureReport(1, FAILED),
    FailureReport(1, FailedState.of(WRONG)),
]


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if type(one) in TYPES.values():
        for field in fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert np.array_equal(one, other)
    else:
        assert one == other


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_arrives_as_it_was_sent(message: Any) -> None:
    ours, theirs = map(Channel, Pipe())
    ours.send(message)
    assert_same(theirs.receive(), message)


def test_messages_arrive_in_order() -> None:
    ours, theirs = map(Channel, Pipe())
    for message in MESSAGES:
        ours.send(message)
    for message in MESSAGES:
        assert_same(theirs.receive(), message)


def test_every_type_of_message_is_tried_here() -> None:
    tried = {type(message) for message in MESSAGES}
    parts = {type(value) for message in MESSAGES for value in vars(message).values()}
    assert {*TYPES.values()} <= tried | parts | {*map(type, (*PARTS, *BLEND))}


def test_the_other_ends_death_is_an_end_of_file() -> None:
    ours, theirs = map(Channel, Pipe())
    theirs.close()
    with pytest.raises(EOFError):
        ours.receive()
    with pytest.raises(OSError, match="Broken pipe"):
        ours.send(Cancel(1))


def test_silence_is_seen_after_its_time() -> None:
    ours, theirs = map(Channel, Pipe())
    assert ours.silent_for(0.01)
    theirs.send(Cancel(1))
    assert not ours.silent_for(TIMEOUT)


def test_it_does_not_close_in_the_middle_of_a_message() -> None:
    ours, theirs = Pipe()
    channel, other = Channel(ours), Channel(theirs)
    audio = np.zeros((1, 2_500_000), np.float32)  # more than any buffer between two processes
    large = ChunkReport(1, audio, CODES, CHROMA, PARTS, "abc", DoneState(300, 300), last=True)
    sender = threading.Thread(target=channel.send, args=(large,), daemon=True)
    closer = threading.Thread(target=channel.close, daemon=True)
    sender.start()
    assert not other.silent_for(TIMEOUT)
    closer.start()
    time.sleep(0.2)
    assert not ours.closed
    assert_same(other.receive(), large)
    closer.join(TIMEOUT)
    assert ours.closed
