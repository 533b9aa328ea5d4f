"""Graphs make the codes that decoding by logits makes, and prove it before they serve."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from musicgen_engine.model.backend import ModelInput
from musicgen_engine.model.backend_loader import BACKENDS, Loaded, choose_backend
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.decoder import DecodeInput, Decoder
from musicgen_engine.model.delay_pattern import DelayPattern, Window
from musicgen_engine.model.graph import Capture, Graph, GraphDecoder
from musicgen_engine.model.guidance import Guidance
from musicgen_engine.model.sampler import Sampler
from musicgen_engine.model.transformer import Transformer, TransformerConfig
from protocol.constants import Codes
from protocol.request import GenerationRequest
from tests.musicgen_engine.model.random_weights import (
    CODEBOOKS,
    POSITIONS,
    VOCAB_SIZE,
    conditioning,
    config,
    text,
    weights,
)
from tests.musicgen_engine.model.recorder import Recording

CPU = torch.device("cpu")
SLOTS = 12  # buckets of 8 and 12
PATTERN = DelayPattern((0, 2), VOCAB_SIZE, window=30)
REQUEST = GenerationRequest("", frames=30, seed=1, top_k=20)


def load(capture: Capture | None, shape: TransformerConfig | None = None) -> Loaded:
    choice = choose_backend("graph", torch.float32, weights(shape or config()), CPU)
    return choice.load(SLOTS, POSITIONS, CPU, capture)


@pytest.fixture(scope="module")
def graph() -> GraphDecoder:
    decoder = load(Recording).decoder
    assert isinstance(decoder, GraphDecoder)
    return decoder


@pytest.fixture(scope="module")
def host() -> Decoder:
    return load(None).decoder


class Song:
    """One window of a sequence, with a decoder."""

    def __init__(
        self,
        slot: int = 0,
        prompt: int = 0,
        frames: int = 30,
        condition: Conditioning | None = None,
        more_slots: tuple[int, ...] = (),
        **settings: Any,
    ) -> None:
        self.slots = [slot, *more_slots]
        self.window = Window(PATTERN, start=7, length=frames, prompt=prompt)
        self.position = 0
        self.codes = np.zeros((CODEBOOKS, 7 + frames), np.int32)
        known = np.random.default_rng(slot).integers(0, VOCAB_SIZE, (CODEBOOKS, prompt))
        self.codes[:, 7 : 7 + prompt] = known
        self.condition = condition or conditioning(slot)
        self.request = replace(REQUEST, **{"seed": slot, **settings})

    @property
    def left(self) -> int:
        return self.window.positions - self.position

    def begin(self, decoder: Decoder) -> None:
        decoder.set_conditioning(self.slots, self.condition)
        decoder.set_request(self.slots, self.request, self.condition.guidance)
        start = -self.condition.prefix_length
        if count := self.window.prompt - start:
            tokens = self.window.tokens(self.codes, start, count)
            decoder.prefill(ModelInput.of(tokens, self.slots, start))
        self.position = self.window.prompt


def decode(decoder: Decoder, songs: list[Song], count: int = 1) -> None:
    """The next positions of all songs."""
    inputs = [DecodeInput(song.slots, song.window, song.position, song.codes) for song in songs]
    made = decoder.decode(inputs, count, None)()
    for index, song in enumerate(songs):
        song.window.write(song.codes, song.position, made[:, index])
        song.position += count


def generate(decoder: Decoder, *songs: Song) -> list[Codes]:
    """The codes of songs that begin one position after another."""
    running: list[Song] = []
    waiting = list(songs)
    while waiting or running:
        if waiting:
            waiting[0].begin(decoder)
            running.append(waiting.pop(0))
        most = 1 if waiting else min(decoder.burst, *(song.left for song in running), 99)
        decode(decoder, running, most)
        running = [song for song in running if song.left]
    return [song.codes for song in songs]


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "greedy": {"temperature": 0.0},
    "top_p": {"top_p": 0.9},
    "every token": {"top_k": 0},
    "a prompt": {"prompt": 11},
    "a short window": {"frames": 3},
    "a negative prompt": {"condition": Conditioning((text(1), text(2, tokens=3)))},
    "no text": {"condition": Conditioning((None, None))},
    "a long text": {"condition": Conditioning((text(1, tokens=500), None))},
    "a prefix": {"condition": Conditioning((text(1), None), torch.randn(2, 3, 64))},
}


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_those_of_decoding_by_logits(
    graph: GraphDecoder, host: Decoder, kind: str
) -> None:
    (ours,) = generate(graph, Song(slot=3, **KINDS[kind]))
    (theirs,) = generate(host, Song(slot=3, **KINDS[kind]))
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("changes", [{"rotary": True}, {"cross_attention": False}], ids=str)
def test_codes_of_other_models_are_those_by_logits(changes: dict[str, Any]) -> None:
    shape = config(**changes)
    kinds: list[dict[str, Any]] = [{}, {"prompt": 5}]
    decoders = [load(capture, shape).decoder for capture in (Recording, None)]
    for kind in kinds:
        ours, theirs = (generate(decoder, Song(**kind)) for decoder in decoders)
        assert np.array_equal(ours, theirs)


def blend(*weights: float) -> Conditioning:
    others = (text(2 + n) for n in range(1, len(weights)))
    return Conditioning((text(2), None, *others), guidance=Guidance(weights))


BLENDS: list[dict[str, Any]] = [
    {"condition": blend(0.3, 0.7), "more_slots": (1,)},
    {"condition": blend(0.2, 0.3, 0.5), "more_slots": (7,)},
    {"condition": blend(0.1, 0.2, 0.3, 0.4), "more_slots": (6, 1)},
]


@pytest.mark.parametrize("kind", BLENDS, ids=["two", "three", "four"])
def test_a_blend_has_its_rows_in_several_slots(
    graph: GraphDecoder, host: Decoder, kind: dict[str, Any]
) -> None:
    (ours,) = generate(graph, Song(slot=3, prompt=4, **kind))
    (theirs,) = generate(host, Song(slot=3, prompt=4, **kind))
    assert np.array_equal(ours, theirs)
    mates = generate(graph, Song(slot=0), Song(slot=3, prompt=4, **kind), Song(slot=4))
    assert np.array_equal(mates[1], ours)
    assert np.array_equal(mates[2], generate(graph, Song(slot=4))[0])


def test_a_song_is_the_same_with_any_mates_in_its_bucket(graph: GraphDecoder) -> None:
    """To the bit, whatever they are and whenever they begin."""
    alone = {slot: generate(graph, Song(slot=slot))[0] for slot in range(8)}
    kinds = list(KINDS.values())
    for slot in range(8):
        mates = [Song(slot=mate, **kinds[mate + slot - 8]) for mate in range(8) if mate != slot]
        mates.insert(slot % 4, Song(slot=slot))
        assert np.array_equal(generate(graph, *mates)[slot % 4], alone[slot])


def test_songs_of_the_largest_bucket_do_not_disturb(graph: GraphDecoder) -> None:
    last = Song(slot=SLOTS - 1)
    (alone,) = generate(graph, last)
    songs = [Song(slot=slot, **kind) for slot, kind in enumerate(KINDS.values())]
    together = generate(graph, Song(slot=SLOTS - 1), *songs)[0]
    assert np.array_equal(together, alone)


def test_a_song_that_is_no_number_leaves_nothing_behind(graph: GraphDecoder) -> None:
    (before,) = generate(graph, Song(slot=2))
    broken = Song(slot=2, condition=Conditioning((text() * torch.nan, None)))
    generate(graph, broken, Song(slot=1))
    assert np.array_equal(generate(graph, Song(slot=2))[0], before)
    (before,) = generate(graph, Song(slot=2, prompt=5))
    generate(graph, broken)
    assert np.array_equal(generate(graph, Song(slot=2, prompt=5))[0], before)


def test_a_song_goes_on_after_a_pause(graph: GraphDecoder) -> None:
    (whole,) = generate(graph, Song(slot=1))
    song = Song(slot=1)
    song.begin(graph)
    decode(graph, [song], 7)
    generate(graph, Song(slot=0))
    while song.left:
        decode(graph, [song])
    assert np.array_equal(song.codes, whole)


def test_a_changed_conditioning_counts_from_its_position(
    graph: GraphDecoder, host: Decoder
) -> None:
    codes = []
    for decoder in (graph, host):
        song = Song()
        song.begin(decoder)
        for _ in range(10):
            decode(decoder, [song])
        decoder.set_conditioning([0], conditioning(5))
        while song.left:
            decode(decoder, [song])
        codes.append(song.codes)
    assert np.array_equal(codes[0], codes[1])
    assert not np.array_equal(codes[0], generate(graph, Song())[0])


class Idle:
    """A captured graph that does nothing, so that only what the host does is left."""

    def replay(self) -> None: ...


def idle(run: Callable[[], None]) -> Graph:
    run()
    return Idle()


def test_between_two_replays_only_codes_are_copied() -> None:
    """Nothing is allocated, and nothing waits."""
    transformer = BACKENDS["graph"](weights(config()), SLOTS, POSITIONS, CPU, torch.float32)
    assert isinstance(transformer, Transformer)
    decoder = GraphDecoder(transformer, Sampler(SLOTS, CODEBOOKS, VOCAB_SIZE, CPU), idle)
    song = Song()
    song.begin(decoder)
    decode(decoder, [song])
    inputs = [DecodeInput(song.slots, song.window, song.position, song.codes)]

    def run() -> None:
        decoder.decode(inputs, 8, None)

    assert Recording(run).names == {"select", "copy_"}


def failing(run: Callable[[], None]) -> Graph:
    raise RuntimeError("no memory for a graph")


class Stale:
    """A recording that takes no notice of some operations."""

    def __init__(self, run: Callable[[], None], skipped: str) -> None:
        self._recording = Recording(run)
        self._recording.operations = [
            operation
            for operation in self._recording.operations
            if operation[0]._schema.name != f"aten::{skipped}"
        ]

    def replay(self) -> None:
        self._recording.replay()


@pytest.mark.parametrize(
    ("capture", "fault"),
    [
        (None, "computes on a GPU"),
        (failing, "fails: RuntimeError"),
        (idle, "differs from eager by "),
        (lambda run: Stale(run, "add_"), "differs from eager by "),
        (lambda run: Stale(run, "index_put_"), "differs from eager by "),
        (lambda run: Stale(run, "argmax"), "samples other codes than eager"),
    ],
    ids=["on a CPU", "capture", "nothing", "position", "cache", "sampling"],
)
def test_graphs_that_differ_are_put_aside(
    capture: Capture | None, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = load(capture)
    assert loaded.name == "eager" and not isinstance(loaded.decoder, GraphDecoder)
    assert loaded.fault and loaded.fault.startswith(f"graph {fault}")
    assert caplog.records[-1].levelno == logging.WARNING
    assert caplog.records[-1].message.startswith(f"the backend graph is put aside: it {fault}")
    expected = generate(load(None).decoder, Song())
    assert np.array_equal(generate(loaded.decoder, Song()), expected)


def test_graphs_that_equal_eager_serve() -> None:
    loaded = load(Recording)
    assert (loaded.name, loaded.fault) == ("graph", None)
