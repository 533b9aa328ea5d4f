"""Random numbers are SplitMix64's: exponential along every axis, and independent."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from musicgen_engine.model.rng import exponential

N = 20_000
MASK = 2**64 - 1


def numbers(seeds: list[int], frames: list[list[int]], vocab_size: int) -> Tensor:
    return exponential(torch.tensor(seeds), torch.tensor(frames), vocab_size)


# The same numbers along each of the four axes: float32 [N].
AXES = {
    "tokens": lambda seed, frame: numbers([seed], [[frame]], N)[0, 0],
    "codebooks": lambda seed, frame: numbers([seed], [[frame] * N], 1)[0, :, 0],
    "frames": lambda seed, frame: numbers([seed] * N, [[frame + i] for i in range(N)], 1)[:, 0, 0],
    "seeds": lambda seed, frame: numbers([seed + i for i in range(N)], [[frame]] * N, 1)[:, 0, 0],
}


def uniform(exponential: Tensor) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = -np.expm1(-exponential.double().numpy())
    return values


def splitmix64(seed: int, i: int) -> int:
    """The i-th number (from 0) of the generator as its paper has it, in integers without end."""
    z = (seed + (i + 1) * 0x9E3779B97F4A7C15) & MASK
    return mix(z)


def mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_the_reference_is_splitmix64() -> None:
    # The first numbers of seed 1234567, as Vigna's C code prints them.
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [splitmix64(1234567, i) for i in range(3)] == known


@pytest.mark.parametrize(
    ("seed", "frame", "codebook", "token"),
    [(0, 0, 0, 0), (1, 2, 3, 4), (7, 1499, 0, 2047), (2**32 - 1, 50, 7, 0), (2**63 - 1, 9, 1, 99)],
)
def test_numbers_are_splitmix64s(seed: int, frame: int, codebook: int, token: int) -> None:
    bits = splitmix64(splitmix64(mix(seed), frame + codebook * 2**32), token)
    values = uniform(numbers([seed], [[frame] * 8], 2048))[0, codebook, token]
    assert values == pytest.approx((bits % 2**63) / 2**63, rel=3e-7)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize(("seed", "frame"), [(0, 0), (1, 0), (0, 1), (2**62, 1499)])
def test_numbers_are_exponential_along_every_axis(axis: str, seed: int, frame: int) -> None:
    values = np.sort(uniform(AXES[axis](seed, frame)))
    distance = np.abs(values - (np.arange(N) + 0.5) / N).max()  # Kolmogorov and Smirnov's
    assert distance * math.sqrt(N) < 1.95  # 1 in 1,000 is beyond; the inputs are fixed


@pytest.mark.parametrize("lag", range(-3, 4))
@pytest.mark.parametrize(("seed", "frame", "codebook"), [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_neighbours_have_other_numbers_at_any_lag(
    seed: int, frame: int, codebook: int, lag: int
) -> None:
    for base in (0, 1, 12345):
        ours = uniform(numbers([base], [[5, 5]], N)[0, 0])
        theirs = uniform(numbers([base + seed], [[5 + frame] * 2], N)[0, codebook])
        correlation = np.corrcoef(ours, np.roll(theirs, lag))[0, 1]
        assert abs(correlation) < 4 / math.sqrt(N)


def test_numbers_in_a_row_are_independent() -> None:
    for along in AXES.values():
        values = uniform(along(3, 3))
        for lag in (1, 2, 3, 64):
            assert abs(np.corrcoef(values[lag:], values[:-lag])[0, 1]) < 4 / math.sqrt(N)


def test_seed_and_frame_do_not_change_places() -> None:
    values = numbers([1, 2], [[2], [1]], 2048)
    assert not torch.isin(values[0], values[1]).any()


def test_numbers_are_above_zero_and_finite() -> None:
    values = numbers(list(range(500)), [[frame] * 4 for frame in range(500)], 2048)
    assert values.min() > 0 and values.max() < 17
    assert values.min() < 1e-5  # 4 million numbers reach far down


def test_a_row_is_the_same_to_the_bit_in_any_batch() -> None:
    for vocab_size in (37, 2048, 2049):
        seeds, frames = torch.arange(16) * 7919, torch.arange(64).view(16, 4) * 31
        alone = torch.cat([exponential(seeds[[i]], frames[[i]], vocab_size) for i in range(16)])
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for n in (1, 2, 3, 7, 16):
                assert torch.equal(exponential(seeds[:n], frames[:n], vocab_size), alone[:n])
        torch.set_num_threads(1)
