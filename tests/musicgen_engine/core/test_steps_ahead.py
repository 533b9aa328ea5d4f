"""The engine starts steps before it has the codes of earlier ones, as on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from musicgen_engine.core import checkpoint
from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.model.backend import ModelInput
from musicgen_engine.model.backend_loader import choose_backend
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.decoder import DecodeInput, Decoder
from musicgen_engine.model.delay_pattern import Integers
from musicgen_engine.model.streaming_codec import CodecInput, StreamingCodec
from protocol.constants import Samples
from protocol.errors import Cancelled, GenerationFailed, NotFinite
from protocol.prompt import Prompt
from protocol.request import GenerationRequest
from tests.musicgen_engine.core.harness import (
    Harness,
    Result,
    generate,
    generate_together,
)
from tests.musicgen_engine.core.songs import BLENDS, A, blended, joining
from tests.musicgen_engine.model.recorder import Recording

SONG = GenerationRequest("a calm piano melody", frames=60, seed=7, extend_stride=1.0)
WINDOW = 80  # frames
Batch = Sequence[CodecInput]


@pytest.fixture(scope="module")
def host(tiny: LoadedModel) -> LoadedModel:
    """It reads the codes of each step at once."""
    return replace(tiny, slots=4, pattern=replace(tiny.pattern, window=WINDOW))


@pytest.fixture(scope="module")
def graph(host: LoadedModel, tiny_checkpoint: Path) -> LoadedModel:
    weights = checkpoint.load(tiny_checkpoint, host.device).weights
    choice = choose_backend("graph", torch.float32, weights, host.device)
    loaded = choice.load(host.slots, host.pattern.positions, host.device, Recording)
    assert loaded.name == "graph" and loaded.decoder.ahead > 0
    return replace(host, backend=loaded.backend, decoder=loaded.decoder)


@pytest.fixture(scope="module")
def song(graph: LoadedModel) -> Result:
    """The result of SONG alone."""
    return generate(graph, SONG)


def same(one: Result, other: Result) -> bool:
    return np.array_equal(one.codes, other.codes) and np.array_equal(one.audio, other.audio)


REQUESTS = {
    "sampled": SONG,
    "greedy": replace(SONG, temperature=0.0),
    "top_p": replace(SONG, top_p=0.9),
    "a full window": replace(SONG, frames=WINDOW),
    "windows": replace(SONG, frames=170),
    "a beginning": replace(SONG, codes=np.arange(160, dtype=np.int32).reshape(4, 40)),
    "a frame": replace(SONG, frames=1),
    "rows that join": joining(replace(SONG, frames=120)),
    "rows that join early": blended(SONG, BLENDS["two"]).changed(0, {"prompt": A}, 1),
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_codes_are_those_of_one_step_at_a_time(
    graph: LoadedModel, host: LoadedModel, kind: str
) -> None:
    ours, theirs = generate(graph, REQUESTS[kind]), generate(host, REQUESTS[kind])
    assert np.array_equal(ours.codes, theirs.codes)


def test_a_song_is_the_same_to_the_bit_in_any_batch(graph: LoadedModel, song: Result) -> None:
    mates = {0: "windows", 1: "top_p", 3: "a frame", 4: "greedy", 6: "a beginning"}
    requests = {step: REQUESTS[kind] for step, kind in mates.items()}
    together = generate_together(graph, {**requests, 2: SONG})
    assert same(together[2], song)


def test_the_next_step_starts_before_codes_are_read(graph: LoadedModel) -> None:
    events: list[str] = []

    class Watched:
        burst, ahead = graph.decoder.burst, graph.decoder.ahead
        set_conditioning = graph.decoder.set_conditioning
        set_request, prefill = graph.decoder.set_request, graph.decoder.prefill

        def decode(
            self, inputs: Sequence[DecodeInput], count: int, prefill: ModelInput | None
        ) -> Callable[[], Integers]:
            events.append("start")
            codes = graph.decoder.decode(inputs, count, prefill)

            def read() -> Integers:
                events.append("read")
                return codes()

            return read

    watched: Decoder = Watched()
    generate(replace(graph, decoder=watched), SONG)
    assert events[:6] == ["start", "start", "read", "start", "read", "start"]
    assert events.count("start") == events.count("read")


def test_audio_keeps_up_with_the_codes(graph: LoadedModel) -> None:
    harness = Harness(graph)
    for seed in range(graph.slots):
        harness.submit(replace(SONG, seed=seed))
    positions = []
    while harness.queue.states():
        positions.append(harness.step())
        assert harness.engine.scheduler.next_for_codec(1) == []
    assert max(positions) == graph.decoder.burst


class WatchedCodec:
    """It keeps the sizes of its batches, and fails on some."""

    def __init__(self, codec: StreamingCodec, fault: Callable[[Batch], Exception | None]) -> None:
        self._codec, self._fault = codec, fault
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)

    def push(self, inputs: Batch) -> list[Samples]:
        if error := self._fault(inputs):
            raise error
        self.batches.append(len(inputs))
        return self._codec.push(inputs)


@pytest.mark.parametrize("most", [2, 1])
def test_the_codec_decodes_as_many_together_as_fit(graph: LoadedModel, most: int) -> None:
    def fault(inputs: Batch) -> Exception | None:
        return torch.OutOfMemoryError("CUDA out of memory") if len(inputs) > most else None

    songs = [replace(SONG, frames=WINDOW, seed=seed) for seed in range(graph.slots)]
    codec: Any = WatchedCodec(graph.codec, fault)
    harness = Harness(replace(graph, codec=codec))
    results = [harness.submit(song) for song in songs]
    harness.run()
    assert max(codec.batches) == most
    for result, song in zip(results, songs, strict=True):
        assert same(result, generate(graph, song))


def test_a_song_that_the_codec_fails_on_fails_alone(graph: LoadedModel, song: Result) -> None:
    bad = np.full((4, 40), 77, np.int32)

    def fault(inputs: Batch) -> Exception | None:
        found = any(np.array_equal(one.codes[:, :9], bad[:, :9]) for one in inputs)
        return RuntimeError("no such codes") if found else None

    codec: Any = WatchedCodec(graph.codec, fault)
    harness = Harness(replace(graph, codec=codec))
    failed, good = harness.submit(replace(SONG, codes=bad)), harness.submit(SONG)
    harness.run()
    assert isinstance(failed.error, GenerationFailed) and same(good, song)


@pytest.mark.parametrize("steps", [4, 5, 8])
def test_a_cancelled_song_leaves_its_slot_to_the_next(
    graph: LoadedModel, song: Result, steps: int
) -> None:
    harness = Harness(graph)
    cancelled = [harness.submit(replace(SONG, seed=seed)) for seed in range(graph.slots)]
    waiting = harness.submit(SONG)
    for _ in range(steps):
        harness.step()
    for result in cancelled:
        harness.queue.cancel(result.sequence.id)
    harness.run()
    assert all(isinstance(result.error, Cancelled) for result in cancelled)
    assert same(waiting, song)


def test_a_song_resumes_to_the_bit(graph: LoadedModel, song: Result) -> None:
    rest = generate(graph, replace(SONG, codes=song.codes[:, :33], start=20 * 640))
    assert np.array_equal(rest.codes, song.codes[:, 33:])


@pytest.mark.parametrize("frame", [1, 20, 33])
@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_a_changed_text_counts_from_its_frame(
    graph: LoadedModel, host: LoadedModel, song: Result, frame: int, field: str
) -> None:
    results = []
    for model in (graph, host):
        results.append(generate(model, SONG.changed(frame, {field: "loud drums"})))
    ours, theirs = (result.codes for result in results)
    assert np.array_equal(ours, theirs)
    assert np.array_equal(ours[0, :frame], song.codes[0, :frame])  # other codebooks come later
    assert not np.array_equal(ours, song.codes)


def test_a_song_whose_logits_are_not_finite_fails_alone(graph: LoadedModel, song: Result) -> None:
    def encode_text(prompt: Prompt, *_: Any, **__: Any) -> Conditioning:
        conditioning = graph.encode_text(prompt)
        if prompt != "bad":
            return conditioning
        return Conditioning(tuple(one if one is None else one * nan for one in conditioning.cross))

    model: Any = replace(graph, encode_text=encode_text)
    for _ in range(2):  # the second time in slots that the first left
        requests = {0: replace(SONG, prompt="bad"), 1: SONG, 5: replace(SONG, frames=20)}
        bad, good, _ = generate_together(model, requests)
        assert isinstance(bad.error, NotFinite) and bad.chunks == []
        assert same(good, song)
