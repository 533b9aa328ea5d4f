"""16-bit WAV: its encoder, and the reader of such files.

The header has the length of the whole song. The tags and the loop stand behind the samples, because
some readers expect these at byte 44.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.audio.receipt import XMP
from protocol.constants import FRAME_RATE, SAMPLE_RATE, Samples
from protocol.errors import InvalidField

Pcm = NDArray[np.int16]  # [channels, samples]

BYTES_PER_SAMPLE = 2
# RIFF's names of tags; it has none for revision and loudness, and "source form" is the nearest to
# the last.
INFO = {
    "title": b"INAM",
    "artist": b"IART",
    "copyright": b"ICOP",
    "revision": b"IREV",
    "software": b"ISFT",
    "digitalsourcetype": b"ISRF",
    "comment": b"ICMT",
    "loudness": b"ILUF",
}
TAGS = {name: tag for tag, name in INFO.items()}
MIDDLE_C = 60  # the key at which a sampler plays the file as it is
PLAIN, EXTENSIBLE = 1, 0xFFFE  # of fmt: PCM, and what stands further on
MAX_TAGS = 1024**2  # bytes of a file beside its samples
MAX_PARTS = 100  # of a file, and of its list of tags


class Wav:
    content_type = "audio/wav"

    def __init__(
        self, channels: int, sample_rate: int, samples: int, tags: Mapping[str, str]
    ) -> None:
        frame = channels * BYTES_PER_SAMPLE
        layout = struct.pack(
            "<HHIIHH", 1, channels, sample_rate, sample_rate * frame, frame, 8 * BYTES_PER_SAMPLE
        )
        inside = b"WAVE" + _chunk(b"fmt ", layout) + b"data" + struct.pack("<I", samples * frame)
        info = _chunk(b"LIST", b"INFO" + b"".join(_tags(tags)))
        loop = _loop(sample_rate, tags) if "looplength" in tags else b""
        xmp = _chunk(b"_PMX", XMP.encode()) if "digitalsourcetype" in tags else b""
        self._tags = loop + info + xmp
        size = len(inside) + samples * frame + len(self._tags)
        self._header = b"RIFF" + struct.pack("<I", size) + inside
        self.length = len(b"RIFF") + 4 + size

    def begin(self) -> bytes:
        return self._header

    def encode(self, audio: Samples | Pcm) -> bytes:
        return pcm(audio).tobytes()

    def end(self) -> bytes:
        return self._tags

    def close(self) -> None: ...


def pcm(audio: Samples | Pcm) -> Pcm:
    """Convert to little-endian int16 [samples, channels]; int16 stays as it is.

    Samples are rounded to the nearest step and clipped to full scale; NaN becomes silence.
    """
    if audio.dtype == np.int16:
        return np.ascontiguousarray(audio.T, "<i2")
    bounded: Samples = np.clip(np.nan_to_num(audio.T), -1.0, 1.0)
    steps: Pcm = np.rint(bounded * 32767.0).astype("<i2")
    return np.ascontiguousarray(steps)


def _loop(sample_rate: int, tags: Mapping[str, str]) -> bytes:
    """The chunk of samplers, with one forward loop without an end."""
    start = int(tags["loopstart"])
    last = start + int(tags["looplength"]) - 1
    loop = struct.pack("<6I", 0, 0, start, last, 0, 0)
    nanoseconds = round(1e9 / sample_rate)
    return _chunk(b"smpl", struct.pack("<9I", 0, 0, nanoseconds, MIDDLE_C, 0, 0, 0, 1, 0) + loop)


def _tags(tags: Mapping[str, str]) -> list[bytes]:
    return [_chunk(name, tags[tag].encode() + b"\0") for tag, name in INFO.items() if tag in tags]


def _chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a RIFF file, whose length must be even."""
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


@dataclass(frozen=True, eq=False)
class Recording:
    """A song of SAMPLE_RATE, with its tags by FFmpeg's names."""

    samples: Pcm
    tags: dict[str, str]


def max_bytes(longest: float) -> int:
    """The bytes of a file of so many seconds in stereo, with its tags."""
    return round(longest * SAMPLE_RATE) * 2 * BYTES_PER_SAMPLE + MAX_TAGS


def read(data: bytes | bytearray, longest: float) -> Recording:
    """Read a file of at most `longest` seconds. Raises InvalidField, of `audio`."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise _refusal("is no WAV; send one, as the service makes it")
    found: dict[bytes, memoryview] = {}
    for name, size, content in _chunks(memoryview(data)[12:]):
        if len(content) < size:
            stated = f"{name.decode('ascii', 'replace')!r} has {len(content)} of {size} bytes"
            raise _refusal(f"is cut short: its part {stated}; send all of it")
        found.setdefault(name + bytes(content[:4]) if name == b"LIST" else name, content)
    channels = _channels(found.get(b"fmt ", memoryview(b"")))
    content = found.get(b"data", memoryview(b""))
    samples, rest = divmod(len(content), channels * BYTES_PER_SAMPLE)
    if not samples or rest:
        raise _refusal(f"has {len(content)} bytes of samples; send one with whole samples")
    if samples > (longest + 1 / FRAME_RATE) * SAMPLE_RATE:
        raise _refusal(f"lasts {samples / SAMPLE_RATE:g} s; give at most {longest:g}")
    audio = np.frombuffer(content, "<i2").reshape(samples, channels).T
    info = {
        TAGS[name]: bytes(text).split(b"\0")[0].decode(errors="replace")
        for name, _, text in _chunks(found.get(b"LISTINFO", memoryview(b""))[4:])
        if name in TAGS
    }
    return Recording(audio, info | _loop_tags(found.get(b"smpl", memoryview(b"")), samples))


def _channels(layout: memoryview) -> int:
    """The channels that the part `fmt` states. Raises InvalidField for what is not ours."""
    if len(layout) < 16:
        raise _refusal("does not state its format; send a plain WAV")
    kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", layout)
    if kind == EXTENSIBLE and len(layout) >= 26:
        kind = int.from_bytes(layout[24:26], "little")
    if kind != PLAIN or bits != 8 * BYTES_PER_SAMPLE:
        raise _refusal(f"has {bits} bits a sample in coding {kind}; convert it to 16-bit PCM")
    if rate != SAMPLE_RATE:
        raise _refusal(f"has {rate} samples a second; convert it to {SAMPLE_RATE}")
    if not 1 <= channels <= 2:
        raise _refusal(f"has {channels} channels; convert it to 1 or 2")
    return int(channels)


def _loop_tags(sampler: memoryview, samples: int) -> dict[str, str]:
    """The tags of the first loop that `_loop` has written; none for another one."""
    if len(sampler) < struct.calcsize("<15I"):
        return {}
    numbers = struct.unpack_from("<15I", sampler)
    loops, (kind, start, last) = numbers[7], numbers[10:13]
    if not loops or kind or not start <= last < samples:
        return {}
    return {"loopstart": str(start), "looplength": str(last + 1 - start)}


def _chunks(data: memoryview) -> Iterator[tuple[bytes, int, memoryview]]:
    """The name, the stated size and the content of each chunk. Raises InvalidField for too many."""
    number = 0
    while len(data) >= 8:
        number += 1
        if number > MAX_PARTS:
            raise _refusal(f"has over {MAX_PARTS} parts; send a plain WAV")
        name, size = bytes(data[:4]), int.from_bytes(data[4:8], "little")
        yield name, size, data[8 : 8 + size]
        data = data[8 + size + size % 2 :]


def _refusal(problem: str) -> InvalidField:
    return InvalidField.of_field("audio", problem)
