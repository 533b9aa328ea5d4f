"""Read back with the standard library's own reader."""

import io
import wave

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway import wav


def round_trip(audio: NDArray[np.float32]) -> NDArray[np.int16]:
    """int16 [channels, samples]"""
    channels, samples = audio.shape
    data = wav.header(channels, 32_000, samples) + wav.pcm(audio)
    with wave.open(io.BytesIO(data)) as reader:
        assert reader.getparams()[:4] == (channels, 2, 32_000, samples)
        return np.frombuffer(reader.readframes(samples), "<i2").reshape(-1, channels).T


def test_the_header_is_44_bytes() -> None:
    assert len(wav.header(2, 32_000, 640)) == 44


@pytest.mark.parametrize("channels", [1, 2])
def test_samples_survive_to_half_a_step(channels: int) -> None:
    audio = np.random.default_rng(0).uniform(-1, 1, (channels, 6_400)).astype(np.float32)
    assert np.abs(round_trip(audio) / 32_767 - audio).max() <= 0.501 / 32_767


def test_channels_stay_apart() -> None:
    audio = np.array([[0.5, 0.25], [-0.5, -0.25]], np.float32)
    assert round_trip(audio).tolist() == [[16_384, 8_192], [-16_384, -8_192]]


def test_what_is_too_loud_is_clipped_and_nan_is_silence() -> None:
    audio = np.array([[1.0, 1.5, -7.0, np.inf, -np.inf, np.nan, 3e38]], np.float32)
    loud = 32_767
    assert round_trip(audio).tolist() == [[loud, loud, -loud, loud, -loud, 0, loud]]
