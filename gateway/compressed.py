"""FLAC, Opus and MP3, encoded by FFmpeg while the music comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import av
import numpy as np
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from gateway.wav import pcm


@dataclass(frozen=True)
class Codec:
    """By FFmpeg's names. `sample_rate` is None for any; `bit_rate` is that of one channel;
    `options` are the container's."""

    content_type: str
    container: str
    codec: str
    sample_rate: int | None = None
    bit_rate: int | None = None
    options: tuple[tuple[str, str], ...] = ()


FLAC = Codec("audio/flac", "flac", "flac")
OPUS = Codec(
    "audio/ogg",
    "ogg",
    "libopus",
    sample_rate=48_000,
    bit_rate=96_000,
    options=(
        ("page_duration", "200000"),  # microseconds: a page is kept back until it is full
    ),
)
MP3 = Codec(
    "audio/mpeg",
    "mp3",
    "libmp3lame",
    bit_rate=128_000,
    options=(
        ("write_xing", "0"),  # it would be written at the end, into the beginning
    ),
)

REPEATABLE = {"fflags": "+bitexact"}  # Ogg's serial number would be drawn


class Compressed:
    length = None  # is known at the end only

    def __init__(
        self, codec: Codec, channels: int, sample_rate: int, samples: int, tags: Mapping[str, str]
    ) -> None:
        self.content_type = codec.content_type
        self._codec, self._samples = codec, samples
        self._layout = {1: "mono", 2: "stereo"}[channels]
        self._sample_rate, self._encoded = sample_rate, 0
        self._sink = _Sink()
        options = {**REPEATABLE, **dict(codec.options)}
        self._container = av.open(self._sink, "w", format=codec.container, options=options)
        self._container.metadata.update(tags)
        rate = codec.sample_rate or sample_rate
        stream = self._container.add_stream(codec.codec, rate=rate)
        assert isinstance(stream, AudioStream)
        self._stream = stream
        self._stream.layout = self._layout
        if codec.bit_rate:
            self._stream.bit_rate = codec.bit_rate * channels

    def begin(self) -> bytes:
        self._container.start_encoding()
        header = self._sink.take()
        return _with_length(header, self._samples) if self._codec is FLAC else header

    def encode(self, audio: NDArray[np.float32]) -> bytes:
        steps = pcm(audio).reshape(1, -1)  # interleaved
        frame = av.AudioFrame.from_ndarray(steps, format="s16", layout=self._layout)
        frame.sample_rate, frame.pts = self._sample_rate, self._encoded
        self._encoded += frame.samples
        self._container.mux(self._stream.encode(frame))
        return self._sink.take()

    def end(self) -> bytes:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._sink.take()

    def close(self) -> None:
        self._container.close()


class _Sink:
    """A file that can only be written on: it goes out as it comes."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:
        self._pieces.append(bytes(piece))
        return len(piece)

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


def _with_length(header: bytes, samples: int) -> bytes:
    """FFmpeg would fill it in at the end. 36 bits, from the low half of byte 21 on (RFC 9639, 8.2:
    the stream's description, behind the 8 bytes of `fLaC` and the block's own header).
    """
    described = int.from_bytes(header[21:26], "big") | samples
    return header[:21] + described.to_bytes(5, "big") + header[26:]
