"""Our arithmetic of windows and delays compared with audiocraft's own pattern provider."""

import numpy as np
import pytest
import torch

from musicgen_engine.core.audiocraft_imports import make_torchaudio_importable
from musicgen_engine.model.delay_pattern import DelayPattern

make_torchaudio_importable()

MONO = DelayPattern((0, 1, 2, 3), special_token=2048, window=1500)
STRIDE = 900
STEREO = DelayPattern((0, 0, 1, 1, 2, 2, 3, 3), special_token=2048, window=1500)


@pytest.mark.parametrize("ours", [MONO, STEREO])
@pytest.mark.parametrize(("frames", "prompt"), [(1, 0), (2, 1), (50, 0), (50, 20), (50, 49)])
def test_tokens_are_those_of_audiocrafts_delay_pattern(
    ours: DelayPattern, frames: int, prompt: int
) -> None:
    from audiocraft.modules.codebooks_patterns import DelayedPatternProvider

    provider = DelayedPatternProvider(ours.codebooks, list(ours.delays))
    pattern = provider.get_pattern(frames)
    codes = np.random.default_rng(0).integers(0, 2048, (ours.codebooks, frames), np.int32)
    tokens, _, _ = pattern.build_pattern_sequence(
        torch.from_numpy(codes).long()[None], ours.special_token
    )
    window = ours.window_of(prompt, frames, STRIDE)
    assert window.positions + 1 == tokens.shape[-1]
    assert np.array_equal(window.tokens(codes, 0, window.positions + 1), tokens[0].numpy())
    assert np.array_equal(window.tokens(codes, 3, 2), tokens[0, :, 3:5].numpy())
    # The first position whose successor holds a new code comes right after the prompt's.
    assert pattern.get_first_step_with_timesteps(prompt) == window.prompt + 1


@pytest.mark.parametrize("pattern", [MONO, STEREO])
@pytest.mark.parametrize(("known", "frames"), [(0, 1), (0, 1500), (700, 1500), (0, 2700)])
def test_each_missing_code_is_made_once_and_then_counts(
    pattern: DelayPattern, known: int, frames: int
) -> None:
    made = np.zeros((pattern.codebooks, frames), int)
    made[:, :known] = 1
    done = known
    while done < frames:
        window = pattern.window_of(done, frames, STRIDE)
        for position in range(window.prompt, window.positions):
            at = window.frames(position)
            new = window.is_new(at)
            made[new, at[new]] += 1
            done = window.frames_done(position + 1)
            assert made[:, :done].min(initial=1) == 1
            assert done == frames or made[:, done].min() == 0
    assert np.all(made == 1)


def test_a_resumed_song_is_in_the_window_of_audiocrafts_stride() -> None:
    starts = {frame: MONO.window_of(frame, 5000, STRIDE).start for frame in range(5000)}
    assert {frame for frame in starts if starts[frame] == 0} == set(range(1500))
    assert {frame for frame in starts if starts[frame] == 900} == set(range(1500, 2400))
    assert {frame for frame in starts if starts[frame] == 1800} == set(range(2400, 3300))
    assert MONO.window_of(1500, 5000, STRIDE).prompt == 600
    assert MONO.window_of(1500, 1501, STRIDE).length == 601
