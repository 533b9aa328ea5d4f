"""The seam of loops of musicgen-tiny, by the measures of `python -m training.evaluation.seam`."""

import numpy as np
import pytest

from musicgen_engine.core.loaded_model import LoadedModel
from protocol.constants import FRAME_RATE, SAMPLE_RATE
from protocol.request import GenerationRequest
from tests.musicgen_engine.conftest import TINY, load
from training.evaluation.adherence import generate
from training.evaluation.hearing import Sound
from training.evaluation.seam import PROMPTS, beat_kept, looped, seam

SECONDS = 6
TONE = (0.5 * np.sin(2 * np.pi * 250 * np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load(TINY)


@pytest.fixture(scope="module")
def songs(model: LoadedModel) -> list[Sound]:
    """Each has a second before its loop."""
    frames = (1 + SECONDS) * FRAME_RATE
    return generate(
        model,
        [GenerationRequest(text, frames, seed=seed) for text in PROMPTS for seed in (1, 2)],
    )


def test_a_seam_is_like_any_other_place(songs: list[Sound]) -> None:
    shares = np.array([seam(looped(song, SECONDS * SAMPLE_RATE)) for song in songs])
    assert (shares <= 1).all(), shares


def test_the_seams_of_loops_without_a_blend_are_heard(songs: list[Sound]) -> None:
    cut = np.array([seam(song[SAMPLE_RATE:])[0] for song in songs])
    blended = np.array([seam(looped(song, SECONDS * SAMPLE_RATE))[0] for song in songs])
    assert cut.max() > 1.2, cut
    assert (cut > blended).sum() > 0.75 * len(songs), (cut, blended)


@pytest.mark.parametrize(("half", "step"), [(1.0, 0), (0.1, 20)])
def test_a_step_of_level_is_measured_in_decibels(half: float, step: float) -> None:
    times = np.arange(len(TONE)) / len(TONE)
    wave = 1 + 0.5 * np.sin(2 * np.pi * 3 * times)  # so that levels differ elsewhere, too
    loop = TONE * wave.astype(np.float32)
    loop[len(loop) // 2 :] *= half
    assert (seam(loop)[1] > 1) == bool(step)


@pytest.mark.parametrize(
    ("prompt", "bpm", "bars"),
    [
        ("fast drums, 150 bpm", 150, 4),
        ("medium tempo organ with drums", 93.75, 2),
    ],
)
def test_a_loop_of_whole_bars_keeps_the_beat(
    model: LoadedModel, prompt: str, bpm: float, bars: int
) -> None:
    bar, beat = (round(beats * 60 / bpm * SAMPLE_RATE) for beats in (4, 1))
    frames = -(-(bar * (1 + bars) + beat) // 640)
    songs = generate(model, [GenerationRequest(prompt, frames, seed=seed) for seed in range(4)])
    kept = [beat_kept(looped(song, bars * bar, bar), bpm) for song in songs]
    lost = [beat_kept(looped(song, bars * bar + beat * 2 // 5, bar), bpm) for song in songs]
    assert np.median(kept) > 0.7, kept  # the rhythm of a song may change there, too
    assert max(lost) < 0.5, lost
