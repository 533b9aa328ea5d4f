"""A song goes on from any part of its codes as it would have."""

from dataclasses import replace

import numpy as np
import pytest

from musicgen_engine.core.audio_stream import AudioChunk
from musicgen_engine.core.loaded_model import LoadedModel
from protocol.request import GenerationRequest
from tests.musicgen_engine.core.harness import Harness, Result, generate, generate_together
from tests.musicgen_engine.core.songs import (
    DRUMS,
    SAMPLED,
    joining,
    noise,
    random_codes,
    with_short_windows,
)


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


@pytest.mark.parametrize("known", [20, 30, 45, 70, 80, 81, 115])
def test_a_song_whose_rows_join_resumes_to_the_bit(
    another: LoadedModel, joined: Result, known: int
) -> None:
    resumed = replace(SAMPLED, codes=joined.codes[:, :known], start=known * 640)
    assert np.array_equal(generate(another, joining(resumed)).codes, joined.codes[:, known:])
