"""What strangers send as audio: heard if it can be, else refused by name, soon and in bounds."""

import asyncio
import io
import os
import signal
import struct
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from gateway.errors import GatewayError, InvalidField, QueueFull
from gateway.upload import MAX_FILES, MAX_READERS, Reader, decode
from gateway.wav import Wav
from tests.conftest import descendants
from tests.gateway.test_models import until


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
@pytest.mark.parametrize(("sample_rate", "channels"), [(8_000, 1), (44_100, 2), (192_000, 2)])
def test_what_is_sent_is_heard(
    format: str, subtype: str, closeness: float, sample_rate: int, channels: int
) -> None:
    audio = tone(0.5, sample_rate, channels)
    heard = decode(file(audio, sample_rate, format, subtype))
    assert heard.sample_rate == sample_rate
    assert heard.samples.shape == (channels, len(audio))
    assert np.abs(heard.samples - audio.T).max() <= closeness


@pytest.mark.parametrize("channels", range(3, 9))
@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG"])
def test_more_channels_than_two_are_mixed_down(format: str, channels: int) -> None:
    audio = tone(0.5, 48_000, channels)
    audio[:, 1:] = 0
    heard = decode(file(audio, 48_000, format)).samples
    assert np.abs(heard).max(axis=1) == pytest.approx([0.5, 0], abs=0.05)


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_song_of_30_s_fits_whatever_its_codec_adds(format: str) -> None:
    heard = decode(file(tone(30), format=format))
    assert heard.seconds == pytest.approx(30, abs=0.001) and heard.seconds <= 30


@pytest.mark.parametrize("format", ["OGG", "MP3"])
def test_what_loses_something_is_heard_too(format: str) -> None:
    heard = decode(file(tone(2), format=format))
    spectrum = np.abs(np.fft.rfft(heard.samples[0, 16_000:48_000]))
    assert spectrum.argmax() == 440


def with_header(channels: int = 1, sample_rate: int = 32_000, samples: int = 6_400) -> bytes:
    """A WAV that says so; there are 6,400 samples in it."""
    steps = np.rint(tone(0.2) * 20_000).astype("<i2").tobytes() * channels
    return Wav(channels, sample_rate, samples, {}).begin() + bytes(steps)


def of_codec(number: int) -> bytes:
    """A WAV that says so."""
    data = bytearray(with_header())
    data[20:22] = struct.pack("<H", number)
    return bytes(data)


def with_title(title: bytes) -> bytes:
    info = b"INFOINAM" + struct.pack("<I", len(title)) + title
    return file(tone(1)) + b"LIST" + struct.pack("<I", len(info)) + info


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
        (file(tone(30.3)), "is longer than 30 s; cut it"),
        (file(np.zeros((32_000 * 3_600, 1), np.int16) + 1, format="FLAC"), "is longer than 30 s"),
        (file(tone(2), format="FLAC")[:40], "cannot be read"),
        (of_codec(0x1234), "cannot be read"),
        (file(tone(1), format="FLAC") + file(tone(1, channels=2), format="FLAC"), "changes its f"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
async def test_what_cannot_be_gone_on_from_is_told(data: bytes, message: str) -> None:
    with pytest.raises(InvalidField, match=message) as raised:
        await Reader().read(data)
    assert raised.value.field == "audio"


async def test_a_file_comes_through_its_own_process() -> None:
    heard = await Reader().read(file(tone(1, 44_100, 2), 44_100, subtype="FLOAT"))
    assert heard.sample_rate == 44_100
    assert np.array_equal(heard.samples, tone(1, 44_100, 2).T)


async def test_that_process_finds_our_code_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert (await Reader().read(file(tone(1)))).seconds == 1


def script(code: str, *arguments: str) -> Reader:
    return Reader([sys.executable, "-c", code, *arguments])


async def test_that_process_knows_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    tells = "import json, os; print(json.dumps({'wrong': str('HF_TOKEN' in os.environ)}))"
    with pytest.raises(InvalidField, match="False"):
        await script(tells).read(b"")


async def test_a_file_that_kills_its_reader_cannot_be_read() -> None:
    kills = f"import os; os.kill(os.getpid(), {signal.SIGSEGV})"
    with pytest.raises(InvalidField, match="cannot be read"):
        await script(kills).read(b"")


@pytest.mark.parametrize("megabytes", [40, 80, 120])
async def test_a_file_that_takes_more_memory_than_there_is_cannot_be_read(megabytes: int) -> None:
    """As samples it has 46 MB, of which some steps need a second copy, or a third."""
    limited = (
        "import resource, av, gateway.upload as upload; "
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize(); "
        f"upload.MAX_MEMORY = used + {megabytes} * 1024**2; upload.main()"
    )
    with pytest.raises(InvalidField, match="cannot be read"):
        await script(limited).read(file(tone(30, 192_000, 2), 192_000, "FLAC"))


async def test_a_reader_that_fails_is_our_fault_and_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(GatewayError) as raised:
        await script("raise LookupError('a bug')").read(b"")
    assert (raised.value.status, raised.value.field) == (500, None)
    assert "a bug" in caplog.text and "bug" not in raised.value.message


async def test_a_few_files_are_read_at_a_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    reads = (
        "import sys, time; log = open(sys.argv[1], 'a', buffering=1); print('+', file=log); "
        """time.sleep(0.1); print('-', file=log); print('{"wrong": "is read"}')"""
    )
    reader = script(reads, str(log))
    answers = await asyncio.gather(*(reader.read(b"") for _ in range(6)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["audio is read."] * 6
    steps = [1 if line == "+" else -1 for line in log.read_text().split()]
    assert max(np.cumsum(steps)) <= MAX_READERS and len(steps) == 12


async def test_who_goes_away_leaves_no_reader_behind() -> None:
    def readers() -> int:
        return sum("time.sleep(60)" in line for line in descendants(os.getpid()).values())

    reading = asyncio.create_task(script("import time; time.sleep(60)").read(b""))
    await until(readers)
    reading.cancel()
    await until(lambda: not readers())


@pytest.mark.parametrize("title", [b"\xe9t\xe9\0", b"\0\0", b"\xff" * 40])
def test_a_title_in_any_encoding_does_no_harm(title: bytes) -> None:
    assert decode(with_title(title)).seconds == 1


def test_a_header_that_lies_about_the_length_is_not_believed() -> None:
    assert decode(with_header(samples=2**30)).samples.shape == (1, 6_400)
    data = bytearray(with_header())
    data[4:8] = struct.pack("<I", 8)
    assert decode(bytes(data)).samples.shape[0] == 1


def test_a_list_cannot_name_the_servers_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg, if it is let, reads the file that is named."""
    monkeypatch.chdir(tmp_path)
    Path("secret.wav").write_bytes(file(tone(1)))
    names_it = b"ffconcat version 1.0\nfile secret.wav\n"
    with av.open(io.BytesIO(names_it), "r") as container:
        assert len(list(container.decode(audio=0)))
    with pytest.raises(InvalidField, match="cannot be read"):
        decode(names_it)


def test_no_more_files_are_held_than_there_is_room_for() -> None:
    reader = Reader()
    with ExitStack() as files:
        for _ in range(MAX_FILES):
            files.enter_context(reader.room())
        with pytest.raises(QueueFull, match="ask again in 10 s"):
            files.enter_context(reader.room())
    with reader.room():
        pass
