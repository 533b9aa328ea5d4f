"""Decoding of uploads: every file is decoded or refused, in little time and memory."""

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

from gateway.audio.upload import MAX_DECODERS, MAX_FILES, Decoder, decode
from gateway.audio.wav import Wav
from protocol.errors import Internal, InvalidField, QueueFull
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
def test_lossless_files_are_decoded_exactly(
    format: str, subtype: str, closeness: float, sample_rate: int, channels: int
) -> None:
    audio = tone(0.5, sample_rate, channels)
    decoded = decode(file(audio, sample_rate, format, subtype))
    assert decoded.sample_rate == sample_rate
    assert decoded.samples.shape == (channels, len(audio))
    assert np.abs(decoded.samples - audio.T).max() <= closeness


@pytest.mark.parametrize("channels", range(3, 9))
@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG"])
def test_more_than_two_channels_are_mixed_to_stereo(format: str, channels: int) -> None:
    audio = tone(0.5, 48_000, channels)
    audio[:, 1:] = 0
    decoded = decode(file(audio, 48_000, format)).samples
    assert np.abs(decoded).max(axis=1) == pytest.approx([0.5, 0], abs=0.05)


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
def test_padding_of_a_codec_does_not_make_30_s_too_long(format: str) -> None:
    decoded = decode(file(tone(30), format=format))
    assert decoded.seconds == pytest.approx(30, abs=0.001) and decoded.seconds <= 30


@pytest.mark.parametrize("format", ["OGG", "MP3"])
def test_lossy_files_are_decoded(format: str) -> None:
    decoded = decode(file(tone(2), format=format))
    spectrum = np.abs(np.fft.rfft(decoded.samples[0, 16_000:48_000]))
    assert spectrum.argmax() == 440


def with_header(channels: int = 1, sample_rate: int = 32_000, samples: int = 6_400) -> bytes:
    """A WAV of 6,400 samples whose header says otherwise."""
    steps = np.rint(tone(0.2) * 20_000).astype("<i2").tobytes() * channels
    return Wav(channels, sample_rate, samples, {}).begin() + bytes(steps)


def with_codec(number: int) -> bytes:
    """A WAV whose header has this number of a codec."""
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
        (with_codec(0x1234), "cannot be read"),
        (file(tone(1), format="FLAC") + file(tone(1, channels=2), format="FLAC"), "changes its f"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
async def test_a_file_that_cannot_be_continued_is_refused(data: bytes, message: str) -> None:
    assert message in await problem(Decoder(), data)


async def test_a_process_decodes_a_file() -> None:
    decoded = await Decoder().decode(file(tone(1, 44_100, 2), 44_100, subtype="FLOAT"))
    assert decoded.sample_rate == 44_100
    assert np.array_equal(decoded.samples, tone(1, 44_100, 2).T)


async def test_the_process_finds_its_code_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert (await Decoder().decode(file(tone(1)))).seconds == 1


# A process that refuses its file.
REFUSES = (
    "import os; from protocol.errors import InvalidField; import json; "
    "print(json.dumps(InvalidField.of_field('audio', {}).data()))"
)


async def problem(decoder: Decoder, data: bytes) -> str:
    """The message of the error about the file."""
    with pytest.raises(InvalidField) as raised:
        await decoder.decode(data)
    assert raised.value.field == "audio"
    return raised.value.message


def script(code: str, *arguments: str) -> Decoder:
    return Decoder([sys.executable, "-c", code, *arguments])


async def test_the_process_has_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    code = REFUSES.format("str('HF_TOKEN' in os.environ)")
    assert await problem(script(code), b"") == "audio False."


async def test_a_file_that_kills_its_process_is_refused() -> None:
    kills = f"import os; os.kill(os.getpid(), {signal.SIGSEGV})"
    assert "cannot be read" in await problem(script(kills), b"")


@pytest.mark.parametrize("megabytes", [40, 80, 120])
async def test_a_file_that_needs_too_much_memory_is_refused(megabytes: int) -> None:
    """The samples have 46 MB; some steps need a second copy of them, or a third."""
    limited = (
        "import resource, av, gateway.audio.upload as upload; "
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize(); "
        f"upload.MAX_MEMORY = used + {megabytes} * 1024**2; upload.main()"
    )
    data = file(tone(30, 192_000, 2), 192_000, "FLAC")
    assert "cannot be read" in await problem(script(limited), data)


async def test_a_failed_process_is_an_internal_error_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(Internal) as raised:
        await script("raise LookupError('a bug')").decode(b"")
    assert (raised.value.status, raised.value.field) == (500, None)
    assert "a bug" in caplog.text and "bug" not in raised.value.message


async def test_few_files_are_decoded_at_a_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = (
        "import sys, time; log = open(sys.argv[1], 'a', buffering=1); print('+', file=log); "
        "time.sleep(0.1); print('-', file=log); " + REFUSES.format("'is read'")
    )
    decoder = script(code, str(log))
    problems = await asyncio.gather(*(problem(decoder, b"") for _ in range(6)))
    assert problems == ["audio is read."] * 6
    steps = [1 if line == "+" else -1 for line in log.read_text().split()]
    assert max(np.cumsum(steps)) <= MAX_DECODERS and len(steps) == 12


async def test_a_cancelled_decoding_ends_its_process() -> None:
    def processes() -> int:
        return sum("time.sleep(60)" in line for line in descendants(os.getpid()).values())

    decoding = asyncio.create_task(script("import time; time.sleep(60)").decode(b""))
    await until(processes)
    decoding.cancel()
    await until(lambda: not processes())


@pytest.mark.parametrize("title", [b"\xe9t\xe9\0", b"\0\0", b"\xff" * 40])
def test_a_title_in_any_encoding_is_ignored(title: bytes) -> None:
    assert decode(with_title(title)).seconds == 1


def test_a_wrong_length_in_a_header_is_ignored() -> None:
    assert decode(with_header(samples=2**30)).samples.shape == (1, 6_400)
    data = bytearray(with_header())
    data[4:8] = struct.pack("<I", 8)
    assert decode(bytes(data)).samples.shape[0] == 1


def test_a_playlist_cannot_name_files_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without our options FFmpeg reads the file that the playlist names."""
    monkeypatch.chdir(tmp_path)
    Path("secret.wav").write_bytes(file(tone(1)))
    playlist = b"ffconcat version 1.0\nfile secret.wav\n"
    with av.open(io.BytesIO(playlist), "r") as container:
        assert len(list(container.decode(audio=0)))
    with pytest.raises(InvalidField, match="cannot be read"):
        decode(playlist)


def test_the_number_of_files_in_memory_is_limited() -> None:
    decoder = Decoder()
    with ExitStack() as files:
        for _ in range(MAX_FILES):
            files.enter_context(decoder.room())
        with pytest.raises(QueueFull, match="ask again in 10 s"):
            files.enter_context(decoder.room())
    with decoder.room():
        pass
