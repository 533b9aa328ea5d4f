"""Encoder of 16-bit WAV. Its header has the length of the whole song.

The tags and the loop stand behind the samples, because some readers expect these at byte 44.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gateway.audio.receipt import XMP
from protocol.constants import Samples

BYTES_PER_SAMPLE = 2
# RIFF's names of tags; it has none for revision and loudness, and "source form" is the nearest to
# the last.
INFO = {
    "title": b"INAM",
    "artist": b"IART",
    "copyright": b"ICOP",
    "software": b"ISFT",
    "comment": b"ICMT",
    "revision": b"IREV",
    "loudness": b"ILUF",
    "digitalsourcetype": b"ISRF",
}
MIDDLE_C = 60  # the key at which a sampler plays the file as it is


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
        self._tags = loop + info + _chunk(b"_PMX", XMP.encode())
        size = len(inside) + samples * frame + len(self._tags)
        self._header = b"RIFF" + struct.pack("<I", size) + inside
        self.length = len(b"RIFF") + 4 + size

    def begin(self) -> bytes:
        return self._header

    def encode(self, audio: Samples) -> bytes:
        return pcm(audio).tobytes()

    def end(self) -> bytes:
        return self._tags

    def close(self) -> None: ...


def pcm(audio: Samples) -> NDArray[np.int16]:
    """Convert to little-endian int16 [samples, channels].

    Samples are rounded to the nearest step and clipped to full scale; NaN becomes silence.
    """
    bounded = np.clip(np.nan_to_num(audio.T), -1.0, 1.0)
    steps: NDArray[np.int16] = np.rint(bounded * 32767.0).astype("<i2")
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
