"""Requests in one batch: the codes are exactly audiocraft's, and as if each were alone."""

import threading
from copy import copy
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from musicgen_engine.core.audio_stream import AudioChunk
from musicgen_engine.core.engine import warm_up
from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.model.backend import ModelInput
from musicgen_engine.model.conditioning import Conditioning
from protocol.constants import Codes, Samples
from protocol.errors import (
    Cancelled,
    GenerationFailed,
    InvalidField,
    NotFinite,
    QueueFull,
    WeightsChanged,
)
from protocol.prompt import Prompt, WeightedText
from protocol.request import GenerationRequest
from tests.conftest import TIMEOUT, needs_native, until
from tests.musicgen_engine.conftest import load
from tests.musicgen_engine.core.harness import (
    Harness,
    Relay,
    Result,
    decoding_by,
    generate,
    generate_together,
)
from tests.musicgen_engine.core.reference import Reference

GREEDY = GenerationRequest("a calm piano melody", frames=50, seed=0, temperature=0)
SAMPLED = GenerationRequest("a calm piano melody", frames=120, seed=7)
WINDOW = 100  # frames, for tests of several windows: 1,500, as checkpoints have, take minutes


def with_short_windows(model: LoadedModel) -> LoadedModel:
    return replace(model, pattern=replace(model.pattern, window=WINDOW))


@pytest.fixture(scope="module")
def audiocraft(tiny: LoadedModel, tiny_checkpoint: Path) -> Reference:
    return Reference(tiny_checkpoint)


@pytest.fixture(scope="module")
def audiocraft_stereo(stereo: LoadedModel, stereo_checkpoint: Path) -> Reference:
    return Reference(stereo_checkpoint)


@pytest.fixture(scope="module")
def audiocraft_rotary(rotary: LoadedModel, rotary_checkpoint: Path) -> Reference:
    return Reference(rotary_checkpoint)


@pytest.fixture(scope="module")
def sampled(tiny: LoadedModel) -> Result:
    """The result of SAMPLED alone."""
    return generate(tiny, SAMPLED)


def random_codes(frames: int, codebooks: int = 4) -> Codes:
    return np.random.default_rng(1).integers(0, 2048, (codebooks, frames), np.int32)


def mates(frames: int, **settings: Any) -> dict[int, GenerationRequest]:
    """Seven requests of all kinds, by the step at which they join the batch."""
    requests = {
        0: GenerationRequest("drums", frames, seed=1),
        1: GenerationRequest("", frames // 2, seed=2, top_p=0.8),
        4: GenerationRequest("strings " * 60, frames, seed=3, cfg_coef=1.0),
        9: GenerationRequest("guitar", frames + 40, seed=4, codes=random_codes(40), start=31 * 640),
        10: GenerationRequest("flute", 3, seed=5, temperature=0),
        25: GenerationRequest("bass", frames, seed=6, top_k=1),
        40: GenerationRequest("Музыка", frames // 3, seed=7, temperature=2.0, top_k=0),
    }
    return {step: replace(request, **settings) for step, request in requests.items()}


def noise(channels: int, seconds: float, sample_rate: int) -> Samples:
    """Low frequencies, so that resampling keeps them; read-only, as an engine receives audio."""
    steps = np.random.default_rng(2).standard_normal((channels, int(seconds * sample_rate)))
    audio = (0.01 * steps.cumsum(axis=1)).astype(np.float32).clip(-1, 1)
    audio.flags.writeable = False
    return audio


def same(one: Result, other: Result) -> bool:
    """To the bit, chunk by chunk."""
    return len(one.chunks) == len(other.chunks) and all(
        np.array_equal(a.audio, b.audio) and np.array_equal(a.codes, b.codes)
        for a, b in zip(one.chunks, other.chunks, strict=True)
    )


@pytest.mark.parametrize(
    "request_",
    [
        GREEDY,
        replace(GREEDY, frames=1),
        replace(GREEDY, cfg_coef=1.0),
        replace(GREEDY, cfg_coef=0.0),
        replace(GREEDY, cfg_coef=20.0),
        replace(GREEDY, prompt=""),
        replace(GREEDY, prompt="rock"),
        replace(GREEDY, prompt="an anthem for a stadium, with choirs, " * 40),
        replace(GREEDY, prompt="Музыка 音楽 🎵"),
    ],
    ids=lambda request: f"{request.prompt[:12]!r}, {request.frames}, {request.cfg_coef:g}",
)
def test_greedy_codes_are_audiocrafts(
    tiny: LoadedModel, audiocraft: Reference, request_: GenerationRequest
) -> None:
    result = generate(tiny, request_)
    assert len(np.unique(result.codes)) > result.codes.size / 2  # repetition would prove little
    assert np.array_equal(result.codes, audiocraft.codes(request_))
    assert np.allclose(result.audio, audiocraft.audio(result.codes), rtol=0, atol=1e-5)


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


def test_the_time_of_a_step_is_seen_from_outside(tiny: LoadedModel) -> None:
    answers = threading.Event()

    def encode_text(prompt: Prompt, *_: Any, **__: Any) -> Conditioning:
        answers.wait(TIMEOUT)
        return tiny.encode_text(prompt)

    harness = Harness(replace(tiny, encode_text=encode_text))
    threading.Thread(target=harness.engine.run, daemon=True).start()
    result = harness.submit(replace(GREEDY, frames=1))
    until(lambda: harness.engine.step_seconds > 0.2)
    answers.set()
    until(lambda: result.ended and not harness.engine.step_seconds)


def test_greedy_codes_are_audiocrafts_over_windows_in_a_batch(
    tiny: LoadedModel, audiocraft: Reference
) -> None:
    """Mates join when it begins, and when its second and third window are prefilled."""
    request = replace(GREEDY, frames=220, extend_stride=1.0)
    later = {
        165: GenerationRequest("drums", 60, seed=1, extend_stride=1.0),
        222: GenerationRequest("bass", 30, seed=2, extend_stride=1.0),
    }
    requests = {**mates(100, extend_stride=1.0), 55: request, **later}
    results = generate_together(with_short_windows(tiny), requests)
    assert np.array_equal(results[7].codes, audiocraft.codes(request, WINDOW))
    assert all(result.error is None for result in results)


@pytest.mark.parametrize("kind", ["tiny", "rotary"])
def test_greedy_codes_are_audiocrafts_at_a_full_windows_end(
    kind: str, request: pytest.FixtureRequest
) -> None:
    model: LoadedModel = request.getfixturevalue(kind)
    name = {"tiny": "audiocraft", "rotary": "audiocraft_rotary"}[kind]
    reference: Reference = request.getfixturevalue(name)
    one = replace(GREEDY, frames=1510, codes=random_codes(1480), extend_stride=29.0)
    assert np.array_equal(generate(model, one).codes, reference.codes(one)[:, 1480:])


@pytest.mark.parametrize("extend_stride", [1.0, 1.46])
def test_greedy_stereo_codes_are_audiocrafts_with_any_stride(
    stereo: LoadedModel, audiocraft_stereo: Reference, extend_stride: float
) -> None:
    request = replace(GREEDY, frames=220, extend_stride=extend_stride)
    result = generate(with_short_windows(stereo), request)
    assert np.array_equal(result.codes, audiocraft_stereo.codes(request, WINDOW))
    assert np.allclose(result.audio, audiocraft_stereo.audio(result.codes), rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [50, 120])
def test_greedy_rotary_codes_are_audiocrafts_in_a_batch(
    rotary: LoadedModel, audiocraft_rotary: Reference, frames: int
) -> None:
    request = replace(GREEDY, frames=frames, extend_stride=1.0)
    requests = {**mates(60, extend_stride=1.0), 5: request}
    result = generate_together(with_short_windows(rotary), requests)[3]
    assert result.sequence.request == request
    assert np.array_equal(result.codes, audiocraft_rotary.codes(request, WINDOW))


def test_a_rotary_song_does_not_depend_on_its_batch_mates(rotary: LoadedModel) -> None:
    results = generate_together(rotary, {**mates(60), 5: SAMPLED})
    assert same(results[3], generate(rotary, SAMPLED))


@pytest.mark.parametrize("known", [1, 33, 49])
def test_a_greedy_continuation_is_audiocrafts(
    tiny: LoadedModel, audiocraft: Reference, known: int
) -> None:
    request = replace(GREEDY, codes=random_codes(known))
    expected = audiocraft.codes(request)
    assert np.array_equal(expected[:, :known], random_codes(known))
    assert np.array_equal(generate(tiny, request).codes, expected[:, known:])


def test_a_continuation_of_audio_is_audiocrafts(tiny: LoadedModel, audiocraft: Reference) -> None:
    request = replace(GREEDY, prompt_audio=noise(2, 0.4, 44_100), prompt_sample_rate=44_100)
    result = generate(tiny, request)
    assert request.prompt_frames == 20
    assert result.sequence.request.prompt_audio is None  # its memory is free
    assert np.array_equal(result.codes, audiocraft.codes(request))  # with those of the audio
    assert np.allclose(result.audio, audiocraft.audio(result.codes), rtol=0, atol=1e-5)


def test_a_stereo_song_continues_mono_audio(
    stereo: LoadedModel, audiocraft_stereo: Reference
) -> None:
    request = replace(GREEDY, prompt_audio=noise(1, 0.4, 32_000))
    assert np.array_equal(generate(stereo, request).codes, audiocraft_stereo.codes(request))


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


@pytest.mark.parametrize(("known", "start"), [(29, 16_000), (60, 0), (60, 60 * 640), (61, 12_345)])
def test_a_resumed_song_is_the_rest_of_the_whole_one(
    tiny: LoadedModel, sampled: Result, known: int, start: int
) -> None:
    rest = generate(tiny, replace(SAMPLED, codes=sampled.codes[:, :known], start=start))
    assert np.array_equal(rest.codes, sampled.codes[:, known:])
    assert np.allclose(rest.audio, sampled.audio[:, start:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("known", [29, 60])
def test_progress_begins_at_the_resumed_frame(tiny: LoadedModel, known: int) -> None:
    harness = Harness(tiny)
    request = replace(SAMPLED, frames=80, codes=random_codes(known), start=known * 640)
    result = harness.submit(request)
    progress = []
    while not result.ended:
        harness.step()
        progress.append(result.sequence.frames_done)
    assert progress[0] == known and progress[-1] == request.frames
    assert progress == sorted(progress)


def test_a_stereo_song_resumes(stereo: LoadedModel) -> None:
    whole = generate(stereo, SAMPLED)
    rest = generate(stereo, replace(SAMPLED, codes=whole.codes[:, :70], start=60 * 640))
    assert np.array_equal(rest.codes, whole.codes[:, 70:])
    assert np.allclose(rest.audio, whole.audio[:, 60 * 640 :], rtol=0, atol=1e-5)


def resumed_after_each_chunk(
    request: GenerationRequest, chunks: list[AudioChunk]
) -> dict[int, GenerationRequest]:
    """By the number of chunks that arrived: the request for the rest."""
    rest = {}
    for received in range(1, len(chunks)):
        codes = np.concatenate([chunk.codes for chunk in chunks[:received]], axis=1)
        samples = request.start + sum(chunk.audio.shape[1] for chunk in chunks[:received])
        rest[received] = replace(request, prompt_audio=None, codes=codes, start=samples)
    return rest


@pytest.mark.parametrize("kind", ["tiny", "int8", "stereo"])
def test_a_song_resumes_after_any_chunk_to_the_bit(
    kind: str, request: pytest.FixtureRequest
) -> None:
    model: LoadedModel = request.getfixturevalue(kind)
    whole = replace(SAMPLED, frames=160)
    chunks = generate(model, whole).chunks
    assert [chunk.audio.shape[1] // 640 for chunk in chunks] == [25, 25, 25, 25, 50, 10]
    resumed = resumed_after_each_chunk(whole, chunks)
    for received, rest in enumerate(generate_together(model, resumed), start=1):
        for one, other in zip(rest.chunks, chunks[received:], strict=True):
            assert np.array_equal(one.audio, other.audio)


@pytest.mark.parametrize("start", [0, 90 * 640])
def test_a_continued_song_resumes_within_its_beginning_to_the_bit(
    tiny: LoadedModel, start: int
) -> None:
    """Its codes come with the first chunk. Its second window begins soon after it."""
    model = with_short_windows(tiny)
    beginning = noise(1, 1.8, 32_000)
    whole = replace(SAMPLED, prompt_audio=beginning, start=start, extend_stride=1.0)
    chunks = generate(model, whole).chunks
    assert chunks[0].codes.shape == (4, 90 if start == 0 else 104)
    for received, request in resumed_after_each_chunk(whole, chunks).items():
        for one, other in zip(generate(model, request).chunks, chunks[received:], strict=True):
            assert np.array_equal(one.audio, other.audio)
            assert np.array_equal(one.codes, other.codes)


def test_a_song_resumes_in_any_window(tiny: LoadedModel) -> None:
    model = with_short_windows(tiny)
    request = replace(SAMPLED, frames=170, extend_stride=1.0)
    whole = generate(model, request)
    for known in (99, 100, 149, 160):
        start = (known - 10) * 640
        rest = generate(model, replace(request, codes=whole.codes[:, :known], start=start))
        assert np.array_equal(rest.codes, whole.codes[:, known:])
        assert np.allclose(rest.audio, whole.audio[:, start:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("start", [0, 100 * 640 + 1, 120 * 640])
def test_a_song_with_all_its_codes_is_only_decoded(
    tiny: LoadedModel, sampled: Result, start: int
) -> None:
    rest = generate(tiny, replace(SAMPLED, codes=sampled.codes, start=start))
    assert rest.codes.shape == (4, 0)
    assert np.allclose(rest.audio, sampled.audio[:, start:], rtol=0, atol=1e-5)


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


DRUMS = {"prompt": "loud drums"}


@pytest.fixture(scope="module")
def drummed(tiny: LoadedModel) -> Result:
    """The result of SAMPLED whose text changes at frame 60."""
    return generate(tiny, SAMPLED.changed(60, DRUMS))


def test_a_changed_text_counts_from_its_frame(sampled: Result, drummed: Result) -> None:
    assert np.array_equal(sampled.codes[:, :60], drummed.codes[:, :60])
    assert not np.array_equal(sampled.codes[:, 60:], drummed.codes[:, 60:])


def test_the_next_text_is_encoded_ahead(tiny: LoadedModel) -> None:
    """So that the song does not wait for it where its section begins."""
    harness = Harness(tiny)
    song = harness.submit(SAMPLED.changed(60, DRUMS))
    while song.sequence.frames_done < 30:
        harness.step()
    assert {scope[0] for scope in song.sequence.conditionings} == {SAMPLED.prompt, "loud drums"}


def test_the_same_text_again_changes_nothing(tiny: LoadedModel, sampled: Result) -> None:
    assert same(generate(tiny, SAMPLED.changed(60, {})), sampled)


@pytest.fixture(scope="module")
def another(tiny_checkpoint: Path) -> LoadedModel:
    """The model of a new engine."""
    return load(tiny_checkpoint)


@pytest.mark.parametrize("known", [40, 60, 61, 90])
def test_a_changed_song_resumes_to_the_bit_in_a_new_engine(
    another: LoadedModel, drummed: Result, known: int
) -> None:
    """A position is computed under the conditioning of its own frame, in prefill too."""
    resumed = replace(SAMPLED, codes=drummed.codes[:, :known], start=known * 640)
    rest = generate(another, resumed.changed(60, DRUMS))
    assert np.array_equal(rest.codes, drummed.codes[:, known:])


@pytest.mark.parametrize("frame", [60, 110])
def test_a_changed_song_resumes_to_the_bit_in_a_later_window(tiny: LoadedModel, frame: int) -> None:
    """The window from frame 50 on is prefilled under both texts, or decoded under both."""
    model = with_short_windows(tiny)
    request = replace(SAMPLED, frames=140, extend_stride=1.0)
    whole = generate(model, request.changed(frame, DRUMS))
    for known in (99, 120):
        resumed = replace(request, codes=whole.codes[:, :known], start=known * 640)
        rest = generate(model, resumed.changed(frame, DRUMS))
        assert np.array_equal(rest.codes, whole.codes[:, known:])


def test_a_changed_song_does_not_depend_on_its_batch_mates(
    tiny: LoadedModel, drummed: Result
) -> None:
    harness = Harness(tiny)
    for request in mates(60).values():
        harness.submit(request)
    result = harness.submit(SAMPLED.changed(60, DRUMS))
    harness.run()
    assert same(result, drummed)


def test_each_section_is_sampled_with_its_settings(tiny: LoadedModel) -> None:
    """Position 60 makes frame 60 of the first codebook, and frame 57 of the fourth."""
    greedy = generate(tiny, replace(SAMPLED, temperature=0.0).changed(60, {"temperature": 1.0}))
    alone = generate(tiny, replace(SAMPLED, temperature=0.0))
    assert np.array_equal(greedy.codes[:, :57], alone.codes[:, :57])
    assert np.array_equal(greedy.codes[0, :60], alone.codes[0, :60])
    assert not np.array_equal(greedy.codes[:, 60:], alone.codes[:, 60:])


def test_the_prompt_as_negative_prompt_leaves_guidance_without_effect(tiny: LoadedModel) -> None:
    """Both rows are equal, so no difference of theirs is left to be scaled."""
    same_text = replace(SAMPLED, negative_prompt=SAMPLED.prompt)
    songs = [generate(tiny, replace(same_text, cfg_coef=scale)) for scale in (0.0, 3.0, 50.0)]
    assert all(same(song, songs[0]) for song in songs)


def test_a_negative_prompt_counts_in_its_section(tiny: LoadedModel, sampled: Result) -> None:
    led_away = generate(tiny, SAMPLED.changed(60, {"negative_prompt": "loud drums"}))
    assert np.array_equal(led_away.codes[:, :60], sampled.codes[:, :60])
    assert not np.array_equal(led_away.codes[:, 60:], sampled.codes[:, 60:])
    together = generate_together(
        tiny, {**mates(60), 60: SAMPLED.changed(60, {"negative_prompt": "loud drums"})}
    )
    assert same(together[-1], led_away)


def test_a_text_of_a_later_section_is_checked_before_the_song(tiny: LoadedModel) -> None:
    refused = generate(tiny, SAMPLED.changed(60, {"negative_prompt": "\ufdfa" * 340}))
    assert isinstance(refused.error, InvalidField) and refused.chunks == []
    assert refused.error.field == "sections[1].negative_prompt"
    assert "has 2043 tokens of text; shorten it to 1997" in refused.error.message


A, B, C, D = "a calm piano melody", "loud drums", "strings " * 5, "a flute"
BLENDS: dict[str, dict[str, float]] = {
    "two": {A: 0.5, B: 0.5},
    "three": {A: 0.2, B: 0.5, C: 0.3},
    "four": {A: 0.4, B: 0.1, C: 0.3, D: 0.2},
}


def blended(request: GenerationRequest, blend: dict[str, float]) -> GenerationRequest:
    prompt = tuple(WeightedText(text, weight) for text, weight in blend.items())
    return request.changed(0, {"prompt": prompt})


@pytest.mark.parametrize("blend", BLENDS.values(), ids=BLENDS)
def test_a_blend_is_guidance_by_all_texts_in_audiocraft(
    tiny: LoadedModel, audiocraft: Reference, blend: dict[str, float]
) -> None:
    result = generate(tiny, blended(GREEDY, blend))
    assert len(np.unique(result.codes)) > result.codes.size / 2
    assert np.array_equal(result.codes, audiocraft.likeliest(result.codes, blend, GREEDY.cfg_coef))


def test_a_blend_of_one_text_is_that_text(tiny: LoadedModel, sampled: Result) -> None:
    assert same(generate(tiny, blended(SAMPLED, {A: 17.0})), sampled)


def test_weights_count_by_their_shares(tiny: LoadedModel) -> None:
    few, many = ({A: 0.25 * factor, B: 0.75 * factor} for factor in (1.0, 8.0))
    assert same(generate(tiny, blended(SAMPLED, few)), generate(tiny, blended(SAMPLED, many)))


def joining(request: GenerationRequest) -> GenerationRequest:
    """Rows join at frame 30, leave at frame 60, and join again at frame 80."""
    parts = (blended(request, BLENDS[name]).timeline[0].prompt for name in ("two", "four"))
    for first, prompt in zip((30, 80), parts, strict=True):
        request = request.changed(first, {"prompt": prompt}, 30)
    return request


@pytest.fixture(scope="module")
def joined(tiny: LoadedModel) -> Result:
    return generate(tiny, joining(SAMPLED))


@pytest.mark.parametrize("known", [20, 30, 45, 70, 80, 81, 115])
def test_a_song_whose_rows_join_resumes_to_the_bit(
    another: LoadedModel, joined: Result, known: int
) -> None:
    resumed = replace(SAMPLED, codes=joined.codes[:, :known], start=known * 640)
    assert np.array_equal(generate(another, joining(resumed)).codes, joined.codes[:, known:])


def test_a_song_whose_rows_join_is_the_same_in_a_batch(tiny: LoadedModel, joined: Result) -> None:
    together = generate_together(tiny, {**mates(60), 60: joining(SAMPLED)})
    assert same(together[-1], joined)
    alone = [generate(tiny, request) for request in mates(60).values()]
    assert all(map(same, together, alone))


def test_a_row_that_joins_has_seen_what_the_first_has(tiny: LoadedModel, sampled: Result) -> None:
    """A blend of one text with itself goes on as that text, but for rounding."""
    twice = (WeightedText(A, 0.5), WeightedText(A, 0.5))
    greedy = replace(SAMPLED, temperature=0.0)
    result = generate(tiny, greedy.changed(60, {"prompt": twice}))
    assert np.array_equal(result.codes, generate(tiny, greedy).codes)


def test_a_blend_waits_for_as_many_slots_as_it_needs(tiny: LoadedModel) -> None:
    harness = Harness(tiny)
    songs = [GenerationRequest("x", 20, seed=n) for n in range(tiny.slots - 1)]
    blend = blended(GenerationRequest("", 5, seed=1), BLENDS["two"])
    first = [harness.submit(song) for song in songs]
    second, later = harness.submit(blend), harness.submit(GenerationRequest("x", 5, seed=9))
    for _ in range(15):
        harness.step()
    assert not (second.chunks or later.chunks)  # first come, first served
    harness.run()
    assert all(result.chunks[-1].last for result in (*first, second, later))


def test_a_blend_of_more_than_all_slots_is_refused(tiny: LoadedModel) -> None:
    refused = generate(replace(tiny, slots=1), blended(SAMPLED, BLENDS["two"]))
    assert isinstance(refused.error, InvalidField)
    assert refused.error.message.startswith("sections[0].prompt has 2 texts; give 1")


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
    assert {"set_request", "decode"} <= parts["decoder"].names
    assert {"stream", "push"} <= parts["codec"].names
