"""What strangers send as audio: heard if it can be, else refused by name, soon and in bounds."""

import io
import struct
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from gateway.errors import InvalidField
from gateway.upload import decode, read
from gateway.wav import Wav


def tone(seconds: float, sample_rate: int = 32_000, channels: int = 1) -> Any:
    """float32 [samples, channels]"""
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    return np.tile(0.5 * np.sin(2 * np.pi * 440 * times)[:, None], (1, channels)).astype(np.float32)


def file(
    audio: Any, sample_rate: int = 32_000, format: str = "WAV", subtype: str | None = None
) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, audio, sample_rate, format=format, subtype=subtype)
    return out.getvalue()


@pytest.mark.parametrize(
    ("format", "subtype", "closeness"),
    [
        ("WAV", "PCM_16", 1e-4), ("WAV", "PCM_24", 1e-6), ("WAV", "FLOAT", 0),
        ("WAV", "PCM_U8", 0.01), ("W64", "DOUBLE", 1e-7), ("FLAC", "PCM_16", 1e-4),
        ("AIFF", "PCM_16", 1e-4),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("sample_rate", "channels"), [(8_000, 1), (44_100, 2), (192_000, 8)])
def test_what_is_sent_is_heard(
    format: str, subtype: str, closeness: float, sample_rate: int, channels: int
) -> None:
    audio = tone(0.5, sample_rate, channels)
    heard = decode(file(audio, sample_rate, format, subtype))
    assert heard.sample_rate == sample_rate
    assert np.abs(heard.samples - audio.T).max() <= closeness


@pytest.mark.parametrize("format", ["OGG", "MP3"])
def test_what_loses_something_is_heard_too(format: str) -> None:
    heard = decode(file(tone(2), format=format))
    spectrum = np.abs(np.fft.rfft(heard.samples[0, 16_000:48_000]))
    assert spectrum.argmax() == 440


def with_header(channels: int = 1, sample_rate: int = 32_000, samples: int = 6_400) -> bytes:
    """A WAV that says so; there are 6,400 samples in it."""
    steps = np.rint(tone(0.2) * 20_000).astype("<i2").tobytes() * channels
    return Wav(channels, sample_rate, samples, {}).begin() + bytes(steps)


def pipe(file: Path) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile://{file}\n#EXT-X-ENDLIST\n".encode()


def video() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be read"),
        (b"no audio at all" * 1_000, "cannot be read"),
        (video(), "holds no audio"),
        (file(tone(0)), "is empty"),
        (file(0 * tone(1)), "is silent"),
        (file(tone(1) * np.float32("nan"), subtype="FLOAT"), "is silent"),
        (with_header(channels=64), "has 64 channels; convert it to 1 to 8"),
        (with_header(sample_rate=8), "has 8 samples a second; convert"),
        (with_header(sample_rate=768_000), "has 768000 samples a second; convert"),
        (with_header(sample_rate=44_101), "convert it to a multiple of 25 from 8000 to 192000"),
        (file(tone(30.1)), "is longer than 30 s; cut it"),
        (file(np.zeros((32_000 * 3_600, 1), np.int16) + 1, format="FLAC"), "is longer than 30 s"),
        (file(tone(2), format="FLAC")[:40], "is empty|cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
async def test_what_cannot_be_gone_on_from_is_told_at_once(data: bytes, message: str) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidField, match=message) as raised:
        await read(data)
    assert time.monotonic() - began < 3  # of which a second is the start of the reader
    assert raised.value.field == "audio"


async def test_a_file_comes_through_its_own_process(tmp_path: Path) -> None:
    heard = await read(file(tone(1, 44_100, 2), 44_100, subtype="FLOAT"))
    assert heard.sample_rate == 44_100
    assert np.array_equal(heard.samples, tone(1, 44_100, 2).T)


def test_a_header_that_lies_about_the_length_is_not_believed() -> None:
    assert decode(with_header(samples=2**30)).samples.shape == (1, 6_400)
    data = bytearray(with_header())
    data[4:8] = struct.pack("<I", 8)
    assert decode(bytes(data)).samples.shape[0] == 1


def test_a_playlist_cannot_name_the_servers_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(file(tone(1)))
    with pytest.raises(InvalidField, match="cannot be read"):
        decode(pipe(secret))
    with pytest.raises(InvalidField, match="cannot be read"):
        decode(f"ffconcat version 1.0\nfile {secret}\n".encode())
