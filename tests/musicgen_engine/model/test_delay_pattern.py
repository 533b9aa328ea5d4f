"""Our arithmetic of windows and delays against audiocraft's own pattern provider."""

import numpy as np
import pytest
import torch

from musicgen_engine.core import torchaudio_shim
from musicgen_engine.model.delay_pattern import Layout

torchaudio_shim.install()

MONO = Layout((0, 1, 2, 3), special=2048, window=1500)
STRIDE = 900
STEREO = Layout((0, 0, 1, 1, 2, 2, 3, 3), special=2048, window=1500)


@pytest.mark.parametrize("layout", [MONO, STEREO])
@pytest.mark.parametrize(("frames", "prompt"), [(1, 0), (2, 1), (50, 0), (50, 20), (50, 49)])
def test_columns_are_those_of_audiocrafts_delay_pattern(
    layout: Layout, frames: int, prompt: int
) -> None:
    from audiocraft.modules.codebooks_patterns import DelayedPatternProvider

    provider = DelayedPatternProvider(layout.codebooks, list(layout.delays))
    pattern = provider.get_pattern(frames)
    codes = np.random.default_rng(0).integers(0, 2048, (layout.codebooks, frames), np.int32)
    sequence, _, _ = pattern.build_pattern_sequence(
        torch.from_numpy(codes).long()[None], layout.special
    )
    window = layout.window_of(prompt, frames, STRIDE)
    assert window.end + 1 == sequence.shape[-1]
    assert np.array_equal(window.columns(codes, 0, window.end + 1), sequence[0].numpy())
    assert np.array_equal(window.columns(codes, 3, 2), sequence[0, :, 3:5].numpy())
    # the first column whose successor holds something new comes right behind the prompt's
    assert pattern.get_first_step_with_timesteps(prompt) == window.prompt + 1


@pytest.mark.parametrize("layout", [MONO, STEREO])
@pytest.mark.parametrize(("held", "frames"), [(0, 1), (0, 1500), (700, 1500), (0, 2700)])
def test_each_missing_code_is_drawn_once_and_counted_when_all_of_its_frame_are(
    layout: Layout, held: int, frames: int
) -> None:
    drawn = np.zeros((layout.codebooks, frames), int)
    drawn[:, :held] = 1
    complete = held
    while complete < frames:
        window = layout.window_of(complete, frames, STRIDE)
        for column in range(window.prompt, window.end):
            at = window.frames(column)
            new = window.missing(at)
            drawn[new, at[new]] += 1
            complete = window.complete(column + 1)
            assert drawn[:, :complete].min(initial=1) == 1
            assert complete == frames or drawn[:, complete].min() == 0
    assert np.all(drawn == 1)


def test_a_window_is_that_of_audiocrafts_stride_wherever_a_song_goes_on() -> None:
    starts = {frame: MONO.window_of(frame, 5000, STRIDE).start for frame in range(5000)}
    assert {frame for frame in starts if starts[frame] == 0} == set(range(1500))
    assert {frame for frame in starts if starts[frame] == 900} == set(range(1500, 2400))
    assert {frame for frame in starts if starts[frame] == 1800} == set(range(2400, 3300))
    assert MONO.window_of(1500, 5000, STRIDE).prompt == 600
    assert MONO.window_of(1500, 1501, STRIDE).length == 601
