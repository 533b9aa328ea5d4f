"""The loudness of whole songs, against what the standards define."""

import numpy as np
import pytest

from gateway.audio.loudness import MOST_LIMITING, SILENCE, Level, measure, with_loudness
from protocol.constants import Samples

RATE = 32_000


def tone(channels: int, amplitude: float, hertz: float = 997.0) -> Samples:
    wave = amplitude * np.sin(2 * np.pi * hertz * np.arange(4 * RATE) / RATE)
    return np.repeat(wave[None].astype(np.float32), channels, axis=0)


def music(channels: int = 1, seconds: int = 6) -> Samples:
    """Soft noise in bursts, whose peaks are far above its mean."""
    hiss = np.random.default_rng(0).normal(size=(channels, seconds * RATE))
    noise = np.array([np.convolve(one, np.hanning(8) / 2, "same") for one in hiss])
    bursts = np.exp(-4 * (np.arange(seconds * RATE) / RATE % 0.5) / 0.5)
    return np.asarray(0.05 * noise * bursts, np.float32)


def slices(song: Samples, length: int = RATE) -> list[Samples]:
    return list(np.split(song, range(length, song.shape[1], length), axis=1))


def louder(song: Samples, target: float, loop: bool = False) -> tuple[Samples, Level]:
    parts, level = with_loudness(slices(song), target, loop)
    whole = np.concatenate(list(parts), axis=1)
    assert whole.shape == song.shape and whole.dtype == np.float32
    return whole, level


def true_peak(song: Samples) -> float:
    """The peak of the song, oversampled eightfold by its spectrum."""
    spectrum = np.fft.rfft(song, axis=1)
    return float(np.abs(np.fft.irfft(spectrum, 8 * song.shape[1], axis=1)).max() * 8)


@pytest.mark.parametrize(
    ("channels", "amplitude", "lufs"),
    [
        (1, 1.0, -3.01),  # BS.1770, annex 1: a full-scale sine at 997 Hz in one channel
        (1, 0.1, -23.01),
        (2, 10 ** (-23 / 20), -23.0),  # EBU Tech 3341, the first test signal
        (2, 10 ** (-33 / 20), -33.0),  # and the second
    ],
)
def test_the_meter_agrees_with_the_standards(channels: int, amplitude: float, lufs: float) -> None:
    level = measure(slices(tone(channels, amplitude)))
    assert level.loudness == pytest.approx(lufs, abs=0.1)
    assert level.peak == pytest.approx(amplitude, abs=0.01)


def test_the_meter_sees_peaks_between_samples() -> None:
    """EBU Tech 3341: a quarter of the sample rate, at 45 degrees to it."""
    times = np.arange(4 * RATE)
    softly = np.minimum(times / RATE, 1)  # an abrupt beginning would ring
    song = (0.5 * softly * np.sin(np.pi / 2 * times + np.pi / 4)).astype(np.float32)[None]
    assert np.abs(song).max() < 0.36
    assert measure(slices(song)).peak == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("target", [-30, -23, -14, -11])
def test_a_song_gets_its_loudness_and_no_higher_peak(channels: int, target: float) -> None:
    song, level = louder(music(channels), target)
    assert level.loudness == pytest.approx(target, abs=0.1)
    assert measure(slices(song)).loudness == pytest.approx(level.loudness, abs=0.02)
    assert true_peak(song) <= 10 ** (-1 / 20)


def test_a_gain_alone_changes_nothing_else() -> None:
    song = music()
    changed, _ = louder(song, -30)
    gain = changed[0, 1_000] / song[0, 1_000]
    assert np.allclose(changed, song * gain, rtol=1e-5, atol=0)


def test_loudness_out_of_reach_comes_as_near_as_it_can() -> None:
    song = np.zeros((1, 4 * RATE), np.float32)
    song[0, 1_000::16_000] = 0.9  # clicks, hardly any sound
    changed, level = louder(song, -6)
    assert -40 < level.loudness < -6.1
    assert true_peak(changed) <= 10 ** (-1 / 20)
    assert np.abs(changed).max() <= np.abs(song).max() * 10 ** (MOST_LIMITING / 20)


@pytest.mark.parametrize("amplitude", [4.9e-4, 0.01])
def test_a_soft_song_gets_its_loudness(amplitude: float) -> None:
    """The meter rounds the peak of the softest to nothing."""
    song, level = louder(tone(1, amplitude), -14)
    assert level.loudness == pytest.approx(-14, abs=0.1)
    assert true_peak(song) <= 10 ** (-1 / 20)


@pytest.mark.parametrize("amplitude", [0.0, 1e-5])
def test_silence_stays_as_it_is(amplitude: float) -> None:
    song = tone(2, amplitude)
    changed, level = louder(song, -14)
    assert np.array_equal(changed, song) and level.loudness <= SILENCE


@pytest.mark.parametrize("length", [640, 12_800, 50_000, 10**6])
def test_the_slices_do_not_matter(length: int) -> None:
    """But for the meter's own grain."""
    song = music(2)
    whole, level = louder(song, -12)
    parts, other = with_loudness(slices(song, length), -12)
    assert other.loudness == pytest.approx(level.loudness, abs=0.05)
    assert np.abs(np.concatenate(list(parts), axis=1) - whole).max() < 0.02


def test_the_limiter_leaves_a_loops_seam_alone() -> None:
    """A tone of whole periods goes on over the seam."""
    song = tone(1, 0.3, hertz=500.0)
    song[0, 20_000:20_400] *= 3  # so that the limiter works
    steps = {}
    for loop in (True, False):
        changed, _ = louder(song, -8, loop)
        around = np.concatenate([changed[0, -200:], changed[0, :200]])
        steps[loop] = np.abs(np.diff(around, 3)).max()
    assert steps[True] < 0.1 * steps[False]
