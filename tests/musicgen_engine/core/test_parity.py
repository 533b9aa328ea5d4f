"""The codes are exactly those of audiocraft, alone and in a batch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from musicgen_engine.core.loaded_model import LoadedModel
from protocol.request import GenerationRequest
from tests.musicgen_engine.core.harness import generate, generate_together
from tests.musicgen_engine.core.reference import Reference
from tests.musicgen_engine.core.songs import (
    BLENDS,
    GREEDY,
    WINDOW,
    blended,
    mates,
    noise,
    random_codes,
    with_short_windows,
)


@pytest.fixture(scope="module")
def audiocraft(tiny: LoadedModel, tiny_checkpoint: Path) -> Reference:
    return Reference(tiny_checkpoint)


@pytest.fixture(scope="module")
def audiocraft_stereo(stereo: LoadedModel, stereo_checkpoint: Path) -> Reference:
    return Reference(stereo_checkpoint)


@pytest.fixture(scope="module")
def audiocraft_rotary(rotary: LoadedModel, rotary_checkpoint: Path) -> Reference:
    return Reference(rotary_checkpoint)


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


@pytest.mark.parametrize("blend", BLENDS.values(), ids=BLENDS)
def test_a_blend_is_guidance_by_all_texts_in_audiocraft(
    tiny: LoadedModel, audiocraft: Reference, blend: dict[str, float]
) -> None:
    result = generate(tiny, blended(GREEDY, blend))
    assert len(np.unique(result.codes)) > result.codes.size / 2
    assert np.array_equal(result.codes, audiocraft.likeliest(result.codes, blend, GREEDY.cfg_coef))
