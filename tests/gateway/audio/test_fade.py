"""Fades, slice by slice."""

import numpy as np
import pytest

from gateway.audio.fade import Fade


def faded(slices: list[int], fade_in: int, fade_out: int) -> list[float]:
    """The gains that a song of these slices gets."""
    fade = Fade(sum(slices), fade_in, fade_out)
    parts = [fade(np.ones((2, length), np.float32)) for length in slices]
    left, right = np.concatenate(parts, axis=1)
    assert np.array_equal(left, right) and left.dtype == np.float32
    gains: list[float] = left.tolist()
    return gains


def test_a_fade_is_a_raised_cosine() -> None:
    assert faded([9], 4, 4) == pytest.approx(
        [0, 0.1464, 0.5, 0.8536, 1, 0.8536, 0.5, 0.1464, 0], abs=1e-4
    )


def test_the_samples_between_two_fades_stay_as_they_are() -> None:
    assert faded([100], 10, 20)[10:80] == [1.0] * 70
    assert faded([100], 10, 0)[10:] == [1.0] * 90
    assert faded([100], 0, 20)[:80] == [1.0] * 80


@pytest.mark.parametrize("slices", [[1, 99], [50, 50], [30, 30, 30, 10], [1] * 100])
def test_a_fade_is_the_same_in_any_slices(slices: list[int]) -> None:
    assert faded(slices, 60, 40) == faded([100], 60, 40)
