"""The reader of uploads: each file is read rightly, or refused with the right reason."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from gateway.audio.reader import UnreadableFile, decode

FILES = Path(__file__).parent / "files"  # songs of the service, with damage


def tone(seconds: float, sample_rate: int = 32_000, channels: int = 1) -> Any:
    """float32 [samples, channels]"""
    times = np.arange(round(seconds * sample_rate)) / sample_rate
    return np.tile(0.5 * np.sin(2 * np.pi * 440 * times)[:, None], (1, channels)).astype(np.float32)


def file(
    audio: Any,
    sample_rate: int = 32_000,
    format: str = "WAV",
    subtype: str | None = None,
    endian: str | None = None,
) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, audio, sample_rate, format=format, subtype=subtype, endian=endian)
    return out.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content


def wav(samples: bytes, size: int, bits: int, rate: int = 32_000, channels: int = 1) -> bytes:
    """A WAV whose samples have `size` bytes and `bits` valid bits (WAVE_FORMAT_EXTENSIBLE)."""
    block = size * channels
    pcm = bytes.fromhex("0100000000001000800000aa00389b71")
    layout = struct.pack("<HHIIHH", 0xFFFE, channels, rate, rate * block, block, 8 * size)
    layout += struct.pack("<HHI", 22, bits, 4) + pcm
    return chunk(b"RIFF", b"WAVE" + chunk(b"fmt ", layout) + chunk(b"data", samples))


def pcm(audio: Any, size: int) -> bytes:
    """Little-endian samples of `size` bytes."""
    steps = np.rint(audio * (2 ** (8 * size - 1) - 1)).astype(np.int64)
    return b"".join(int(step).to_bytes(size, "little", signed=True) for step in steps.ravel())


def with_size(wav: bytes, size: int) -> bytes:
    """A WAV whose header states these bytes of samples, as programs write it into a pipe."""
    at, stated = wav.index(b"data") + 4, struct.pack("<I", size)
    return wav[:4] + stated + wav[8:at] + stated + wav[at + 4 :]


def pitch(samples: Any) -> int:
    """Hz of the loudest tone, in the middle of the first second."""
    return int(2 * np.abs(np.fft.rfft(samples[0, 8_000:24_000])).argmax())


@pytest.mark.parametrize(
    ("format", "subtype", "closeness"),
    [
        ("WAV", "PCM_16", 1e-4), ("WAV", "PCM_24", 1e-6), ("WAV", "PCM_32", 1e-6),
        ("WAV", "FLOAT", 0), ("WAV", "PCM_U8", 0.01), ("WAV", "ULAW", 0.02), ("WAVEX", "FLOAT", 0),
        ("RF64", "PCM_24", 1e-6), ("W64", "DOUBLE", 1e-7), ("FLAC", "PCM_16", 1e-4),
        ("FLAC", "PCM_24", 1e-6), ("AIFF", "PCM_16", 1e-4), ("AU", "PCM_24", 1e-6),
        ("CAF", "PCM_24", 1e-6), ("CAF", "ALAC_16", 1e-4),
    ],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 2])
def test_lossless_files_are_read_exactly(
    format: str, subtype: str, closeness: float, channels: int
) -> None:
    audio = tone(0.5, channels=channels)
    read = decode(file(audio, format=format, subtype=subtype))
    assert read.samples.shape == (channels, len(audio)) and read.warning is None
    assert np.abs(read.samples - audio.T).max() <= closeness


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_056, 44_100, 47_952, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("format", ["WAV", "FLAC"])
def test_every_sample_rate_becomes_32_khz(format: str, rate: int) -> None:
    samples = decode(file(tone(1, rate, 2), rate, format)).samples
    assert samples.shape[0] == 2 and abs(samples.shape[1] - 32_000) <= 1
    inside = slice(1_000, -1_000)  # a resampler sees no sound before the start and after the end
    assert np.abs(samples[:, :32_000].T - tone(1))[inside].max() < 1e-3


@pytest.mark.parametrize(("size", "bits"), [(2, 12), (3, 16), (3, 20), (4, 20), (4, 24)])
def test_samples_with_fewer_valid_bits_are_read(size: int, bits: int) -> None:
    samples = decode(wav(pcm(tone(0.5), size), size, bits)).samples
    assert np.abs(samples.T - tone(0.5)).max() < 1e-4


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("format", ["WAV", "CAF"])
def test_big_endian_samples_are_read(format: str, subtype: str) -> None:
    data = file(tone(0.5), format=format, subtype=subtype, endian="BIG")
    assert np.abs(decode(data).samples.T - tone(0.5)).max() < 1e-4


@pytest.mark.parametrize("format", ["OGG", "MP3"])
def test_lossy_files_are_read(format: str) -> None:
    samples = decode(file(tone(2), format=format)).samples
    assert abs(samples.shape[1] - 64_000) <= 128 and pitch(samples) == 440


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
def test_padding_of_a_codec_does_not_make_30_s_too_long(format: str) -> None:
    assert decode(file(tone(30), format=format)).samples.shape[1] == 960_000


@pytest.mark.parametrize("channels", range(3, 9))
@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG"])
def test_more_channels_are_mixed_to_stereo(format: str, channels: int) -> None:
    audio = tone(0.5, 48_000, channels)
    audio[:, 1:] = 0
    mixed = decode(file(audio, 48_000, format)).samples
    assert np.abs(mixed).max(axis=1) == pytest.approx([0.5, 0], abs=0.05)


@pytest.mark.parametrize("channels", range(3, 9))
def test_a_mix_has_every_channel(channels: int) -> None:
    for channel in range(channels):
        audio = tone(0.1, channels=channels)
        audio[:, :channel] = audio[:, channel + 1 :] = 0
        assert np.abs(decode(file(audio)).samples).max() > 0.3


@pytest.mark.parametrize("channels", range(3, 9))
def test_a_mix_is_not_louder_than_full_scale(channels: int) -> None:
    mixed = decode(file(2 * tone(0.1, channels=channels), subtype="FLOAT")).samples
    assert np.abs(mixed).max() == pytest.approx(1)


CUT = "is damaged or cut short; {} of it is left out."


@pytest.mark.parametrize("missing", [1, 2, 3, 5_001])  # bytes
@pytest.mark.parametrize("stated", [None, 0, 0x7FFFFFFF, 0xFFFFFFFF])  # bytes of samples
@pytest.mark.parametrize(("subtype", "size"), [("PCM_16", 2), ("PCM_24", 3), ("FLOAT", 4)])
def test_a_cut_wav_is_read_up_to_the_cut(
    subtype: str, size: int, stated: int | None, missing: int
) -> None:
    audio = tone(1)
    data = file(audio, subtype=subtype)
    if stated is not None:
        data = with_size(data, stated)
    read = decode(data[:-missing])
    whole = (32_000 * size - missing) // size
    assert read.samples.shape[1] == whole
    assert np.abs(read.samples[0] - audio[:whole, 0]).max() < 1e-4
    seconds = missing / size / 32_000
    is_noticed = stated is None or missing % size
    part = f"{max(seconds, 0.01):.2f} s" if stated is None else "0.01 s"
    assert read.warning == (CUT.format(part) if is_noticed else None)


@pytest.mark.parametrize("format", ["RF64", "W64", "AIFF", "AU"])
def test_a_cut_file_is_read_up_to_the_cut(format: str) -> None:
    data = file(tone(1), format=format, subtype="PCM_24")
    read = decode(data[:-24_001])
    assert read.samples.shape[1] in (23_999, 23_998) and read.warning == CUT.format("0.25 s")


@pytest.mark.parametrize("junk", [b"TAG" + bytes(125), b"APETAGEX" + bytes(99), bytes(5_000)])
@pytest.mark.parametrize("format", ["WAV", "FLAC"])
def test_junk_behind_the_samples_costs_none(format: str, junk: bytes) -> None:
    read = decode(file(tone(1), format=format) + junk)
    assert np.abs(read.samples.T - tone(1)).max() < 1e-4 and read.warning is None


@pytest.mark.parametrize("format", ["WAV", "RF64", "W64", "AIFF", "CAF", "FLAC", "MP3"])
def test_a_tag_before_a_file_is_skipped(format: str) -> None:
    """Its picture unpacks to a gigabyte of zeros."""
    picture = struct.pack(">I", 2**30) + zlib.compress(bytes(2**24))
    frame = b"APIC" + struct.pack(">I", len(picture)) + b"\0\x80" + picture
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    samples = decode(b"ID3\3\0\0" + size + frame + file(tone(1), format=format)).samples
    assert abs(samples.shape[1] - 32_000) <= 1 and pitch(samples) == 440


def test_a_truncated_flac_is_read_up_to_the_cut() -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (96_000, 1))
    data = file(noise, format="FLAC")
    read = decode(data[: len(data) * 2 // 3])
    assert 60_000 <= read.samples.shape[1] <= 64_000
    assert np.abs(read.samples[0] - noise[: read.samples.shape[1], 0]).max() < 1e-4
    assert read.warning == CUT.format(f"{3 - read.samples.shape[1] / 32_000:.2f} s")


def test_a_damaged_frame_of_flac_is_left_out() -> None:
    """Decoded without its checksum, it would be noise."""
    data = bytearray(file(tone(3), format="FLAC"))
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(byte ^ 0x55 for byte in data[middle : middle + 64])
    read = decode(bytes(data))
    assert np.abs(read.samples).max() < 0.51
    assert read.warning == CUT.format(f"{3 - read.samples.shape[1] / 32_000:.2f} s")


@pytest.mark.parametrize(
    ("name", "seconds"), [("m4a_64_bad_bytes.m4a", 1.0), ("mp3_one_bad_byte.mp3", 1.02)]
)
def test_packets_that_cannot_be_decoded_are_left_out(name: str, seconds: float) -> None:
    read = decode((FILES / name).read_bytes())
    assert read.warning == CUT.format("0.05 s")
    assert read.samples.shape[1] / 32_000 == pytest.approx(seconds - 0.05, abs=0.03)


def aac(seconds: float, sample_rate: int, layout: str = "mono") -> bytes:
    """A tone as AAC without a container."""
    out = io.BytesIO()
    with av.open(out, "w", format="adts") as container:
        stream: Any = container.add_stream("aac", rate=sample_rate)
        stream.layout = layout
        audio = tone(seconds, sample_rate, stream.layout.nb_channels)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio.T), "fltp", layout)
        frame.sample_rate = sample_rate
        for packets in (stream.encode(frame), stream.encode(None)):
            container.mux(packets)
    return out.getvalue()


@pytest.mark.parametrize("cut", [0, 100])  # bytes
def test_a_truncated_aac_is_read_up_to_the_cut(cut: int) -> None:
    data = aac(1, 44_100)
    read = decode(data[: len(data) - cut])
    assert 0.9 < read.samples.shape[1] / 32_000 < 1.1 and pitch(read.samples) == 440
    assert (read.warning is None) == (cut == 0)


def test_each_part_of_a_file_has_its_own_rate() -> None:
    samples = decode((FILES / "mp3_48k_then_44k.mp3").read_bytes()).samples
    assert samples.shape[1] / 32_000 == pytest.approx(2.08, abs=0.01)
    assert pitch(samples) == pitch(samples[:, 33_500:]) == 250


def test_a_file_may_change_its_sample_rate_and_its_channels() -> None:
    samples = decode(aac(1, 44_100) + aac(1, 48_000, "stereo")).samples
    assert len(samples) == 2 and pitch(samples) == pitch(samples[:, 33_000:]) == 440


def with_header(channels: int = 1, sample_rate: int = 32_000, bits: int = 16) -> bytes:
    """A WAV of 6,400 samples of 16 bits whose header says otherwise."""
    block = 2 * channels
    layout = struct.pack("<HHIIHH", 1, channels, sample_rate, sample_rate * block, block, bits)
    return chunk(
        b"RIFF", b"WAVE" + chunk(b"fmt ", layout) + chunk(b"data", pcm(tone(0.2), 2) * channels)
    )


def with_codec(number: int) -> bytes:
    """A WAV whose header has this number of a codec."""
    data = bytearray(with_header())
    data[20:22] = struct.pack("<H", number)
    return bytes(data)


def with_title(title: bytes) -> bytes:
    return file(tone(1)) + chunk(b"LIST", b"INFO" + chunk(b"INAM", title))


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


def one(value: str) -> Any:
    """A tone with one sample that is no number."""
    audio = tone(1)
    audio[16_000] = np.float32(value)
    return audio


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (file(tone(0)), "is empty"),
        (file(tone(0), format="AIFF"), "is empty"),
        (b"no audio at all" * 1_000, "cannot be read"),
        (video(), "holds no audio"),
        (file(0 * tone(1)), "is silent"),
        (file(one("nan"), subtype="FLOAT"), "holds NaN or infinity"),
        (file(one("inf"), subtype="FLOAT"), "holds NaN or infinity"),
        (file(np.tile(one("nan"), (1, 3)), 44_100, subtype="FLOAT"), "holds NaN or infinity"),
        (with_header(channels=64), "has 64 channels; convert it to 1 to 8"),
        (with_header(sample_rate=8), "has 8 samples a second; convert it to 8000 to 192000"),
        (with_header(sample_rate=768_000), "has 768000 samples a second; convert"),
        (with_header(bits=24), "has a header that contradicts itself; convert it"),
        (file(tone(30.3)), "is longer than 30 s; cut it"),
        (file(np.zeros((32_000 * 3_600, 1), np.int16) + 1, format="FLAC"), "is longer than 30 s"),
        (file(tone(2), format="FLAC")[:40], "cannot be read"),
        (with_codec(0x1234), "cannot be read"),
        (b"\xff\xf1\x4c\x80\x00\xff\xfc" * 1_000, "cannot be read"),  # headers of AAC alone
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_file_that_cannot_be_continued_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(UnreadableFile) as raised:
        decode(data)
    assert message in str(raised.value)


def test_a_longer_file_is_read_where_it_may_be_longer() -> None:
    assert decode(file(tone(40)), longest=120.0).samples.shape == (1, 40 * 32_000)
    with pytest.raises(UnreadableFile, match="longer than 120 s"):
        decode(file(tone(121)), longest=120.0)


@pytest.mark.parametrize("title", [b"\xe9t\xe9\0", b"\0\0", b"\xff" * 40])
def test_a_title_in_any_encoding_is_ignored(title: bytes) -> None:
    assert decode(with_title(title)).samples.shape == (1, 32_000)


def test_a_wrong_length_of_the_whole_file_is_ignored() -> None:
    data = bytearray(with_header())
    data[4:8] = struct.pack("<I", 8)
    assert decode(bytes(data)).samples.shape == (1, 6_400)


def test_a_playlist_cannot_name_files_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without our options FFmpeg reads the file that the playlist names."""
    monkeypatch.chdir(tmp_path)
    Path("secret.wav").write_bytes(file(tone(1)))
    playlist = b"ffconcat version 1.0\nfile secret.wav\n"
    with av.open(io.BytesIO(playlist), "r") as container:
        assert len(list(container.decode(audio=0)))
    with pytest.raises(UnreadableFile, match="cannot be read"):
        decode(playlist)
