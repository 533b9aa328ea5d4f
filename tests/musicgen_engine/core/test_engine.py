"""Requests in one batch: each is as if it were alone, also where another one fails."""

import threading
import time
from collections.abc import Sequence as Many
from copy import copy
from dataclasses import replace
from math import nan
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from musicgen_engine.core.engine import warm_up
from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.model.backend import ModelInput
from musicgen_engine.model.conditioning import Conditioning
from protocol.constants import Codes
from protocol.errors import (
    Cancelled,
    GenerationFailed,
    InvalidField,
    NotFinite,
    QueueFull,
    WeightsChanged,
)
from protocol.prompt import Prompt
from protocol.request import GenerationRequest
from tests.conftest import TIMEOUT, needs_native, until
from tests.musicgen_engine.core.harness import (
    Harness,
    Relay,
    Result,
    decoding_by,
    generate,
    generate_together,
)
from tests.musicgen_engine.core.songs import GREEDY, SAMPLED, mates, noise, random_codes, same


def test_a_text_with_too_many_tokens_is_refused_alone(tiny: LoadedModel) -> None:
    """One character may be half a dozen tokens."""
    many, good = GenerationRequest("\ufdfa" * 2000, 20, seed=1), replace(SAMPLED, frames=20)
    refused, beside = generate_together(tiny, {0: many, 1: good})
    assert isinstance(refused.error, InvalidField)
    assert refused.error.message.startswith("prompt has 12003 tokens of text; shorten it to 2002")
    assert same(beside, generate(tiny, good))


class Paused:
    """An encoder that begins with what a request needs, and waits for `go_on`."""

    def __init__(self, model: LoadedModel, request: GenerationRequest) -> None:
        of_audio = request.prompt_audio is not None
        self.name = "encode_audio" if of_audio else "encode_text"
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._needed = request.prompt_audio if of_audio else request.prompt
        self._encode = getattr(model, self.name)

    def __call__(self, needed: object, *others: Any) -> Any:
        if needed is self._needed:
            self.begun.set()
            assert self.go_on.wait(TIMEOUT)
        return self._encode(needed, *others)


def paused_by(model: LoadedModel, request: GenerationRequest) -> tuple[Harness, Paused]:
    """A running engine, whose encoder waits when it gets to the request."""
    paused = Paused(model, request)
    encoders: dict[str, Any] = {paused.name: paused}
    harness = Harness(replace(model, **encoders))
    threading.Thread(target=harness.engine.run, daemon=True).start()
    return harness, paused


SLOW = replace(SAMPLED, prompt="slow")
SLOW_AUDIO = replace(SAMPLED, prompt_audio=noise(1, 0.4, 32_000))


@pytest.mark.parametrize("request_", [SLOW, SLOW_AUDIO], ids=["text", "audio"])
def test_a_song_goes_on_while_another_one_is_encoded(
    tiny: LoadedModel, sampled: Result, request_: GenerationRequest
) -> None:
    harness, paused = paused_by(tiny, request_)
    other = harness.submit(SAMPLED)
    until(lambda: other.sequence.frames_done > 0)
    slow = harness.submit(request_)
    until(lambda: other.ended)
    assert paused.begun.wait(TIMEOUT)
    assert same(other, sampled) and not slow.ended
    paused.go_on.set()
    until(lambda: slow.ended)
    assert same(slow, generate(tiny, request_))


def test_a_song_is_cancelled_while_it_is_encoded(tiny: LoadedModel, sampled: Result) -> None:
    harness, paused = paused_by(tiny, SLOW)
    slow = harness.submit(SLOW)
    assert paused.begun.wait(TIMEOUT)
    harness.queue.cancel(slow.sequence.id)
    until(lambda: slow.ended)
    assert isinstance(slow.error, Cancelled)
    other = harness.submit(SAMPLED)
    until(lambda: other.sequence.slots == slow.sequence.slots)
    paused.go_on.set()
    until(lambda: other.ended)
    assert same(other, sampled)


@pytest.mark.parametrize("busy", [False, True], ids=["alone", "beside a song"])
def test_the_time_of_an_encoding_is_seen_from_outside(tiny: LoadedModel, busy: bool) -> None:
    harness, paused = paused_by(tiny, SLOW)
    mate = harness.submit(replace(SAMPLED, frames=100_000)) if busy else None
    until(lambda: not mate or mate.sequence.frames_done)
    slow = harness.submit(SLOW)
    assert paused.begun.wait(TIMEOUT)
    until(lambda: harness.engine.scheduler.encoding)
    start = time.monotonic()
    for _ in range(20):
        time.sleep(0.01)
        seconds = time.monotonic() - start
        assert harness.engine.step_seconds > seconds
    paused.go_on.set()
    until(lambda: slow.ended and harness.engine.step_seconds < seconds)
    if mate:
        harness.queue.cancel(mate.sequence.id)


def test_a_rotary_song_does_not_depend_on_its_batch_mates(rotary: LoadedModel) -> None:
    results = generate_together(rotary, {**mates(60), 5: SAMPLED})
    assert same(results[3], generate(rotary, SAMPLED))


def test_the_audio_of_the_prompt_can_be_left_out(tiny: LoadedModel) -> None:
    """Samples after the last whole frame are left out anyway."""
    whole = replace(SAMPLED, prompt_audio=noise(1, 0.411, 32_000))
    new = replace(whole, start=20 * 640)
    all_of_it, rest = generate(tiny, whole), generate(tiny, new)
    assert np.array_equal(all_of_it.codes, rest.codes)
    assert np.allclose(all_of_it.audio[:, new.start :], rest.audio, rtol=0, atol=1e-5)


def test_a_request_for_other_weights_is_refused(tiny: LoadedModel) -> None:
    assert generate(tiny, replace(GREEDY, frames=2, revision=tiny.revision)).error is None
    refused = generate(tiny, replace(GREEDY, revision="0123456789ab"))
    assert isinstance(refused.error, WeightsChanged)


def test_a_stride_as_long_as_the_window_is_refused(tiny: LoadedModel) -> None:
    error = generate(tiny, replace(GREEDY, extend_stride=30.0)).error
    assert isinstance(error, InvalidField) and "extend_stride is 30;" in error.message


def test_a_song_is_the_same_to_the_bit_in_any_batch(tiny: LoadedModel, sampled: Result) -> None:
    requests = {**mates(70), 12: SAMPLED}
    together = generate_together(tiny, requests)
    for result, step in zip(together, sorted(requests), strict=True):
        alone = sampled if step == 12 else generate(tiny, requests[step])
        assert same(result, alone)


@needs_native
def test_a_song_in_int8_is_the_same_to_the_bit_in_any_batch(int8: LoadedModel) -> None:
    assert (int8.backend_name, int8.precision) == ("native", torch.int8)
    alone = generate(int8, SAMPLED)
    others = {0: replace(SAMPLED, seed=8), 2: SAMPLED, 9: replace(SAMPLED, seed=9, frames=30)}
    together = generate_together(int8, others)[1]
    assert np.array_equal(together.codes, alone.codes)
    assert np.array_equal(together.audio, alone.audio)


def test_a_seed_is_a_song_and_another_seed_another(tiny: LoadedModel, sampled: Result) -> None:
    assert same(sampled, generate(tiny, SAMPLED))
    assert not np.array_equal(sampled.codes, generate(tiny, replace(SAMPLED, seed=8)).codes)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 24, 25, 29, 30, 78, 79, 80])
def test_a_song_has_exactly_its_frames(tiny: LoadedModel, frames: int) -> None:
    result = generate(tiny, GenerationRequest("jazz", frames, seed=1))
    assert result.codes.shape == (4, frames)
    assert result.audio.shape == (1, frames * 640)
    assert result.sequence.frames_done == frames


def test_audio_is_sent_while_the_song_is_made(tiny: LoadedModel) -> None:
    """Half seconds for two seconds, each as soon as the codec has its four frames of look-ahead."""
    harness = Harness(tiny)
    result = harness.submit(replace(SAMPLED, frames=200))
    while not result.chunks:
        harness.step()
    assert result.sequence.frames_done == 29
    harness.run()
    assert [chunk.audio.shape[1] // 640 for chunk in result.chunks] == [25, 25, 25, 25, 50, 50]
    assert [chunk.codes.shape[1] for chunk in result.chunks] == [29, 25, 25, 25, 50, 46]


def test_a_cancelled_song_ends_before_the_next_step(tiny: LoadedModel, sampled: Result) -> None:
    harness = Harness(tiny)
    cancelled, other = harness.submit(replace(SAMPLED, seed=9)), harness.submit(SAMPLED)
    for _ in range(10):
        harness.step()
    done = cancelled.sequence.frames_done
    harness.queue.cancel(cancelled.sequence.id)
    harness.step()
    assert isinstance(cancelled.error, Cancelled) and cancelled.sequence.frames_done == done
    harness.run()
    assert same(other, sampled)


@pytest.mark.parametrize(
    ("codes", "complaint"),
    [
        (random_codes(10, codebooks=8), "codes has 8 codebooks"),
        (np.full((4, 10), 2048, np.int32), "codes holds 2048"),
    ],
)
def test_codes_of_another_model_are_refused_alone(
    tiny: LoadedModel, sampled: Result, codes: Codes, complaint: str
) -> None:
    good, bad = generate_together(tiny, {0: SAMPLED, 2: replace(SAMPLED, codes=codes)})
    assert isinstance(bad.error, InvalidField) and bad.error.message.startswith(complaint)
    assert same(good, sampled)


def test_an_encoder_that_fails_on_a_text_fails_it_alone(tiny: LoadedModel, sampled: Result) -> None:
    def encode_text(prompt: Prompt, *_: Any, **__: Any) -> Conditioning:
        if prompt == "bad":
            raise RuntimeError("no such text")
        return tiny.encode_text(prompt)

    model = replace(tiny, encode_text=encode_text)
    good, bad = generate_together(model, {0: SAMPLED, 2: replace(SAMPLED, prompt="bad")})
    assert isinstance(bad.error, GenerationFailed) and "no such text" not in str(bad.error)
    assert same(good, sampled)


def test_a_song_whose_logits_are_not_finite_fails_alone(tiny: LoadedModel, sampled: Result) -> None:
    def encode_text(prompt: Prompt, *_: Any, **__: Any) -> Conditioning:
        conditioning = tiny.encode_text(prompt)
        if prompt != "bad":
            return conditioning
        return Conditioning(tuple(one if one is None else one * nan for one in conditioning.cross))

    model = replace(tiny, encode_text=encode_text)
    good, bad = generate_together(model, {0: SAMPLED, 2: replace(SAMPLED, prompt="bad")})
    assert isinstance(bad.error, NotFinite) and bad.chunks == []
    assert same(good, sampled)


def test_a_song_whose_audio_is_not_finite_fails(tiny: LoadedModel) -> None:
    codec = copy(tiny.codec)
    codec.dequantize = lambda codes: tiny.codec.dequantize(codes) * nan
    result = generate(replace(tiny, codec=codec), SAMPLED)
    assert isinstance(result.error, NotFinite) and result.chunks == []


def test_an_error_of_the_device_ends_the_engine(tiny: LoadedModel) -> None:
    class Broken(Relay):
        def set_conditioning(self, slot: int, conditioning: Conditioning) -> list[int]:
            raise torch.AcceleratorError("the device is gone")

    harness = Harness(decoding_by(tiny, Broken(tiny.backend)))
    harness.submit(SAMPLED)
    with pytest.raises(torch.AcceleratorError):
        harness.engine.run()


def test_a_change_of_settings_computes_no_text_again(tiny: LoadedModel) -> None:
    class Counting(Relay):
        texts = 0

        def set_conditioning(self, slot: int, conditioning: Conditioning) -> Many[int]:
            self.texts += 1
            return super().set_conditioning(slot, conditioning)

    backend, song = Counting(tiny.backend), SAMPLED.changed(60, {"top_k": 40, "cfg_coef": 2.0})
    assert same(generate(decoding_by(tiny, backend), song), generate(tiny, song))
    assert backend.texts == 1


def test_without_memory_the_newest_song_fails_alone(tiny: LoadedModel, sampled: Result) -> None:
    class Small(Relay):
        """It has memory for two sequences at a time."""

        def forward(self, batch: ModelInput) -> Tensor:
            if len(batch.slots) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(batch)

    model = decoding_by(tiny, Small(tiny.backend))
    first, second, third = generate_together(model, {0: SAMPLED, 4: SAMPLED, 8: SAMPLED})
    assert same(first, sampled) and same(second, sampled)
    assert isinstance(third.error, GenerationFailed)
    assert third.error.message.startswith("the device had no memory left for this song")


def test_prefill_chunks_beside_batch_mates_are_small(tiny: LoadedModel) -> None:
    steps: list[list[int]] = []

    class Watched(Relay):
        def forward(self, batch: ModelInput) -> Tensor:
            steps.append(batch.lengths.tolist())
            return super().forward(batch)

    watched = decoding_by(tiny, Watched(tiny.backend))
    long = GenerationRequest("", frames=305, seed=1, codes=random_codes(300))
    generate_together(watched, {0: replace(SAMPLED, frames=60), 1: long})
    assert [1, 2] in steps and max(max(step) for step in steps if len(step) > 1) == 2
    steps.clear()
    generate(watched, long)
    assert steps[:5] == [[64]] * 4 + [[44]]  # alone, the chunks are large


def test_requests_beyond_the_slots_wait_in_order(tiny: LoadedModel) -> None:
    harness = Harness(tiny, max_queue=2)
    results = [harness.submit(GenerationRequest("x", 5, seed=n)) for n in range(tiny.slots + 2)]
    with pytest.raises(QueueFull):
        harness.submit(GenerationRequest("x", 5, seed=99))
    harness.run()
    assert all(result.audio.shape == (1, 3200) for result in results)


class Recorder:
    """Passes on what is asked of a part, and keeps the names."""

    def __init__(self, part: Any) -> None:
        self._part = part
        self.names: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.names.add(name)
        return getattr(self._part, name)


def test_a_model_that_is_warm_has_used_each_part(tiny: LoadedModel) -> None:
    parts: dict[str, Any] = {name: Recorder(getattr(tiny, name)) for name in ("decoder", "codec")}
    warm_up(replace(tiny, **parts))
    assert {"set_conditioning", "set_request", "decode"} <= parts["decoder"].names
    assert {"stream", "push"} <= parts["codec"].names
