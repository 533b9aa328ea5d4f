"""Engines of several devices share one queue; a song is the same in any of them."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from musicgen_engine.channel import Channel
from musicgen_engine.core.engine import Engine
from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.messages import Cancel, ChunkReport, FailureReport, ReadyState, Submit
from protocol.request import GenerationRequest
from tests.conftest import until as happens
from tests.musicgen_engine.conftest import load
from tests.musicgen_engine.core.harness import Harness, generate
from tests.musicgen_engine.core.songs import BLENDS, blended, same
from tests.musicgen_engine.core.test_server import (
    LONG,
    QUEUE,
    SLOTS,
    engine,
    failure_of,
    is_metrics,
    is_state,
    report_of,
    until,
)
from tests.musicgen_engine.core.two_engines import FATAL_SEED, UNREADABLE

SONG = GenerationRequest("a calm piano melody", frames=60, seed=7)
TWO = "tests.musicgen_engine.core.two_engines"


def test_songs_of_one_queue_are_those_of_a_single_engine(
    tiny: LoadedModel, tiny_checkpoint: Path
) -> None:
    first, second = (replace(model, slots=2) for model in (tiny, load(tiny_checkpoint)))
    harness = Harness(first)
    engines = [harness.engine, Engine(second, harness.queue, harness)]
    songs = [replace(SONG, seed=seed) for seed in range(7)]
    results = [harness.submit(song) for song in songs]
    for one in engines:
        threading.Thread(target=one.run, daemon=True).start()
    happens(lambda: all(result.ended for result in results))
    assert all(
        same(result, generate(tiny, song)) for result, song in zip(results, songs, strict=True)
    )
    assert all(one.counts()["audio"] > 0 for one in engines)


@pytest.fixture
def pair(tiny_checkpoint: Path) -> Iterator[Channel]:
    with engine(tiny_checkpoint, module=TWO) as channel:
        yield channel


def test_two_engines_report_their_sums(pair: Channel) -> None:
    ready = until(pair, is_state(ReadyState))[-1].state
    assert (ready.slots, ready.device, ready.fallback) == (2 * SLOTS, "cpu", None)
    for id in range(2 * SLOTS + QUEUE):
        pair.send(Submit(id, "", LONG))
        until(pair, report_of(id))
    until(pair, lambda message: is_metrics(message) and message.values["running"] == 2 * SLOTS)
    report = until(pair, is_metrics)[-1].values
    assert (report["slots"], report["queued"]) == (2 * SLOTS, QUEUE)
    pair.send(Submit(1000, "", LONG))
    assert until(pair, failure_of(1000))[-1].reason.code == "queue_full"
    for id in (0, 1, 2 * SLOTS):  # in each engine, and in the queue
        pair.send(Cancel(id))
        assert until(pair, failure_of(id))[-1].reason.code == "cancelled"


def test_a_device_that_fails_ends_the_process(tiny_checkpoint: Path) -> None:
    """The stub has another one forked, and the songs of both engines go on there."""
    with engine(tiny_checkpoint, module=TWO, exit_code=1) as channel:
        until(channel, is_state(ReadyState))
        channel.send(Submit(0, "", LONG))
        until(channel, lambda message: isinstance(message, ChunkReport))
        channel.send(Submit(1, "", replace(LONG, seed=FATAL_SEED)))
        with pytest.raises(EOFError):
            until(channel, lambda _: False)


def test_a_song_whose_check_fails_costs_no_other_one(pair: Channel) -> None:
    until(pair, is_state(ReadyState))
    pair.send(Submit(0, "", replace(SONG, prompt=UNREADABLE)))
    assert until(pair, failure_of(0))[-1].reason.code == "generation_failed"
    pair.send(Submit(1, "", SONG))
    until(pair, lambda message: isinstance(message, ChunkReport))


def test_a_blend_that_one_device_can_play_is_accepted(tiny_checkpoint: Path) -> None:
    module = "tests.musicgen_engine.core.uneven_engines"
    with engine(tiny_checkpoint, module=module) as channel:
        until(channel, is_state(ReadyState))
        channel.send(Submit(0, "", blended(SONG, BLENDS["three"])))
        ends = (ChunkReport, FailureReport)
        assert isinstance(until(channel, lambda one: isinstance(one, ends))[-1], ChunkReport)
