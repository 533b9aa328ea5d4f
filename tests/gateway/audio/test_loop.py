"""Loops, slice by slice."""

import weakref

import numpy as np
import pytest

from gateway.audio.loop import BLEND, Loop
from protocol.constants import Samples

LEAD, LENGTH = 7_000, 40_000
SONG = np.random.default_rng(0).normal(size=(2, 48_000)).astype(np.float32)


def looped(cuts: list[int], length: int = LENGTH) -> Samples:
    """The loop of the song in slices."""
    loop = Loop(length, LEAD)
    return np.concatenate([loop(part) for part in np.split(SONG, cuts, axis=1)], axis=1)


def test_a_loop_is_the_song_until_its_blend() -> None:
    loop = looped([])
    assert loop.shape == (2, LENGTH) and loop.dtype == np.float32
    assert np.array_equal(loop[:, :-BLEND], SONG[:, LEAD : LEAD + LENGTH - BLEND])


@pytest.mark.parametrize("length", [BLEND, BLEND + 1, LENGTH])
def test_a_loop_ends_as_the_music_before_its_beginning(length: int) -> None:
    end = looped([], length)[:, -BLEND:]
    tail, before = SONG[:, LEAD + length - BLEND : LEAD + length], SONG[:, LEAD - BLEND : LEAD]
    assert np.abs(end[:, :8] - tail[:, :8]).max() < 0.02
    assert np.abs(end[:, -8:] - before[:, -8:]).max() < 0.02


def test_both_sides_of_a_blend_keep_their_power() -> None:
    end, music = looped([])[:, -BLEND:], SONG[:, -BLEND:]
    powers = [np.square(part).mean() for part in np.split(end, 4, axis=1)]
    assert powers == pytest.approx([np.square(music).mean()] * 4, rel=0.2)


def test_a_loop_keeps_no_slice_of_its_song() -> None:
    loop, slices = Loop(LENGTH, LEAD), [part.copy() for part in np.split(SONG, 6, axis=1)]
    kept = [weakref.ref(one) for one in slices]
    while slices:
        loop(slices.pop(0))
    assert not any(one() is not None for one in kept)


@pytest.mark.parametrize(
    "cuts",
    [[1, 2], [16_000, 32_000], [3_000, 5_000, 46_900, 47_001], list(range(640, 48_000, 640))],
)
def test_a_loop_is_the_same_in_any_slices(cuts: list[int]) -> None:
    assert np.array_equal(looped(cuts), looped([]))
