"""Every format, read back by libsndfile and by FFmpeg."""

import io
import json
from dataclasses import replace

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from gateway.contract import Variant
from gateway.errors import InvalidField
from gateway.formats import FORMATS, choose
from gateway.receipt import tags
from gateway.song import Song
from gateway.wav import pcm

SECONDS = 3
SONG = Song(None, "slow piano,\n à la Satie", SECONDS * 50, seed=7, top_k=100)
TINY = Variant("musicgen-tiny", None, "MIT", "bundled")


def tone(channels: int) -> NDArray[np.float32]:
    times = np.arange(SECONDS * 32_000) / 32_000
    tones = [0.5 * np.sin(2 * np.pi * 440 * (1 + channel) * times) for channel in range(channels)]
    return np.array(tones, np.float32)


def encoded(format: str, audio: NDArray[np.float32]) -> list[bytes]:
    """What goes out at the beginning, with each second, and at the end."""
    channels, samples = audio.shape
    file = FORMATS[format](channels, 32_000, samples, tags(SONG, TINY, "0123456789ab"))
    seconds = np.split(audio, SECONDS, axis=1)
    return [file.begin(), *(file.encode(second) for second in seconds), file.end()]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("format", FORMATS)
def test_libsndfile_hears_the_song(format: str, channels: int) -> None:
    audio, sample_rate = tone(channels), 48_000 if format == "ogg" else 32_000
    heard, rate = soundfile.read(io.BytesIO(b"".join(encoded(format, audio))), always_2d=True)
    assert rate == sample_rate and heard.shape[1] == channels
    assert heard.shape[0] / rate == pytest.approx(SECONDS, abs=0 if format != "mp3" else 0.1)
    spectra = np.abs(np.fft.rfft(heard[rate : 2 * rate], axis=0))
    assert spectra.argmax(axis=0).tolist() == [440 * (1 + channel) for channel in range(channels)]
    assert np.abs(heard[rate : 2 * rate]).max() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("channels", [1, 2])
def test_flac_is_the_wav_to_the_bit(channels: int) -> None:
    audio = tone(channels)
    data = b"".join(encoded("flac", audio))
    heard, _ = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    assert np.array_equal(heard, pcm(audio))
    assert soundfile.info(io.BytesIO(data)).frames == SECONDS * 32_000


@pytest.mark.parametrize("format", FORMATS)
def test_it_goes_out_as_it_comes(format: str) -> None:
    _, *seconds, end = encoded(format, tone(1))
    assert all(len(second) > 5_000 for second in seconds)
    assert len(end) < 12_000


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_tells_how_to_make_it_again(format: str) -> None:
    with av.open(io.BytesIO(b"".join(encoded(format, tone(1))))) as file:
        found = {**file.metadata, **file.streams[0].metadata}
    found = {name.lower(): text for name, text in found.items()}
    assert found["title"] == "slow piano, à la Satie"
    assert found["artist"] == "musicgen-tiny"
    assert found["copyright"] == "weights: MIT"
    assert "AudioCraft Service 1" in found["encoder" if format == "wav" else "software"]
    assert json.loads(found["comment"]) == {
        "model": "musicgen-tiny", "prompt": SONG.prompt, "duration": 3.0, "seed": 7,
        "temperature": 1.0, "top_k": 100, "top_p": 0.0, "cfg_coef": 3.0, "extend_stride": 18.0,
    }  # fmt: skip
    assert found["irev" if format == "wav" else "revision"] == "0123456789ab"


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("format", FORMATS)
def test_the_same_song_is_the_same_bytes(format: str, channels: int) -> None:
    assert encoded(format, tone(channels)) == encoded(format, tone(channels))


@pytest.mark.parametrize("pieces", range(4))
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_can_be_closed_at_any_time(format: str, pieces: int) -> None:
    file = FORMATS[format](1, 32_000, SECONDS * 32_000, {})
    steps = [file.begin, lambda: file.encode(tone(1)), file.end]
    for step in steps[:pieces]:
        step()
    file.close()
    file.close()


def test_a_hubs_model_is_named_by_its_checkpoint_and_a_long_prompt_shortened() -> None:
    small = Variant("musicgen-small", "facebook/musicgen-small", "CC-BY-NC-4.0", "cached")
    found = tags(replace(SONG, prompt="x" * 2000), small, "0123456789ab")
    assert found["artist"] == "facebook/musicgen-small"
    assert found["copyright"] == "weights: CC-BY-NC-4.0"
    assert found["title"] == "x" * 79 + "…"


@pytest.mark.parametrize(
    ("wanted", "accept", "format"),
    [
        (None, "", "wav"),
        (None, "*/*", "wav"),
        (None, "application/json", "wav"),
        (None, "audio/flac", "flac"),
        (None, "Audio/MPEG", "mp3"),
        (None, "audio/flac;q=0.5, audio/ogg;q=0.9, */*;q=0.1", "ogg"),
        (None, "audio/flac;q=0", "wav"),
        (None, "audio/flac;q=much", "wav"),
        ("mp3", "audio/flac", "mp3"),
        ("FLAC", "", "flac"),
    ],
)
def test_the_field_decides_then_the_header(wanted: str | None, accept: str, format: str) -> None:
    assert choose(wanted, accept) == format


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(InvalidField, match="format is 'aiff'; give wav, flac, ogg, mp3") as raised:
        choose("aiff", "")
    assert raised.value.field == "format"
