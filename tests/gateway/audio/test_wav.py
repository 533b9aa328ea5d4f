"""The encoder of WAV, read back by the standard library."""

import io
import struct
import wave
from collections.abc import Mapping

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from gateway.audio.wav import Wav, pcm


def file(audio: NDArray[np.float32], tags: Mapping[str, str]) -> bytes:
    """A file that was encoded in two slices."""
    channels, samples = audio.shape
    wav = Wav(channels, 32_000, samples, tags)
    slices = (audio[:, : samples // 3], audio[:, samples // 3 :])
    data = b"".join([wav.begin(), *map(wav.encode, slices), wav.end()])
    assert len(data) == wav.length
    return data


def round_trip(
    audio: NDArray[np.float32], tags: Mapping[str, str] | None = None
) -> NDArray[np.int16]:
    """int16 [channels, samples]"""
    channels, samples = audio.shape
    with wave.open(io.BytesIO(file(audio, tags or {}))) as reader:
        assert reader.getparams()[:4] == (channels, 2, 32_000, samples)
        return np.frombuffer(reader.readframes(samples), "<i2").reshape(-1, channels).T


@pytest.mark.parametrize("channels", [1, 2])
def test_samples_are_exact_to_half_a_step(channels: int) -> None:
    audio = np.random.default_rng(0).uniform(-1, 1, (channels, 6_400)).astype(np.float32)
    assert np.abs(round_trip(audio) / 32_767 - audio).max() <= 0.501 / 32_767


def test_channels_are_not_mixed() -> None:
    audio = np.array([[0.5, 0.25], [-0.5, -0.25]], np.float32)
    assert round_trip(audio).tolist() == [[16_384, 8_192], [-16_384, -8_192]]


def test_loud_samples_are_clipped_and_nan_is_silence() -> None:
    audio = np.array([[1.0, 1.5, -7.0, np.inf, -np.inf, np.nan, 3e38]], np.float32)
    loud = 32_767
    assert round_trip(audio).tolist() == [[loud, loud, -loud, loud, -loud, 0, loud]]


@pytest.mark.parametrize("title", ["", "a", "ab", "été"])  # of odd and even length
def test_tags_leave_the_samples_alone(title: str) -> None:
    audio = np.linspace(-1, 1, 64, dtype=np.float32)[None]
    assert np.array_equal(round_trip(audio, {"title": title}), round_trip(audio))


def test_the_samples_begin_at_byte_44_and_end_before_the_tags() -> None:
    audio = np.linspace(-1, 1, 64, dtype=np.float32)[None]
    data = file(audio, {"title": "jazz"})
    assert data[36:40] == b"data" and data[44 : 44 + 128] == pcm(audio).tobytes()
    assert data.index(b"INAM") > 44 + 128


SFC_GET_INSTRUMENT, SF_LOOP_FORWARD = 0x10D0, 801  # of sndfile.h


@pytest.mark.parametrize("samples", [64, 65])
def test_libsndfile_finds_the_loop(samples: int) -> None:
    """Its SF_INSTRUMENT: a gain, six bytes, the number of loops, and mode, start, end, count of
    each."""
    audio = np.linspace(-1, 1, samples, dtype=np.float32)[None]
    data = file(audio, {"loopstart": "0", "looplength": str(samples)})
    with soundfile.SoundFile(io.BytesIO(data)) as opened:
        instrument = soundfile._ffi.new("char[]", 272)
        assert soundfile._snd.sf_command(opened._file, SFC_GET_INSTRUMENT, instrument, 272)
        found = struct.unpack_from("=i6b2xi4I", soundfile._ffi.buffer(instrument))
    assert found[7:] == (1, SF_LOOP_FORWARD, 0, samples, 0)  # libsndfile's end is past the last one
    assert np.array_equal(
        round_trip(audio, {"loopstart": "0", "looplength": "1"}), round_trip(audio)
    )
