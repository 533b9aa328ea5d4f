"""16-bit PCM WAV, the whole of whose length is known before its first sample."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

BYTES_PER_SAMPLE = 2
# Tags by the names that RIFF has for them; it has none for the revision.
INFO = {
    "title": b"INAM",
    "artist": b"IART",
    "copyright": b"ICOP",
    "software": b"ISFT",
    "comment": b"ICMT",
    "revision": b"IREV",
}


class Wav:
    content_type = "audio/wav"

    def __init__(
        self, channels: int, sample_rate: int, samples: int, tags: Mapping[str, str]
    ) -> None:
        frame = channels * BYTES_PER_SAMPLE
        info = _chunk(b"LIST", b"INFO" + b"".join(_tags(tags)))
        layout = struct.pack(
            "<HHIIHH", 1, channels, sample_rate, sample_rate * frame, frame, 8 * BYTES_PER_SAMPLE
        )
        inside = (
            b"WAVE" + _chunk(b"fmt ", layout) + info + b"data" + struct.pack("<I", samples * frame)
        )
        self._header = b"RIFF" + struct.pack("<I", len(inside) + samples * frame) + inside
        self.length = len(self._header) + samples * frame

    def begin(self) -> bytes:
        return self._header

    def encode(self, audio: NDArray[np.float32]) -> bytes:
        return pcm(audio).tobytes()

    def end(self) -> bytes:
        return b""

    def close(self) -> None: ...


def pcm(audio: NDArray[np.float32]) -> NDArray[np.int16]:
    """float32 [channels, samples] in -1..1 → little-endian int16 [samples, channels].

    Rounds to the nearest step, clips what is louder, and turns NaN into silence.
    """
    bounded = np.clip(np.nan_to_num(audio.T), -1.0, 1.0)
    steps: NDArray[np.int16] = np.rint(bounded * 32767.0).astype("<i2")
    return np.ascontiguousarray(steps)


def _tags(tags: Mapping[str, str]) -> list[bytes]:
    return [_chunk(name, tags[tag].encode() + b"\0") for tag, name in INFO.items() if tag in tags]


def _chunk(name: bytes, content: bytes) -> bytes:
    """Of even length, as RIFF wants it."""
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
