"""Encoders of FLAC, Opus and MP3: FFmpeg encodes each slice of audio as it comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import av
from av.audio.stream import AudioStream

from gateway.audio import mp3
from gateway.audio.wav import Pcm, pcm
from protocol.constants import Samples


@dataclass(frozen=True)
class Codec:
    """A codec and its container, by FFmpeg's names.

    `sample_rate` is None where any will do, `bit_rate` counts per channel, `options` belong to the
    container and `codec_options` to the codec.
    """

    content_type: str
    container: str
    codec: str
    sample_rate: int | None = None
    bit_rate: int | None = None
    options: tuple[tuple[str, str], ...] = ()
    codec_options: tuple[tuple[str, str], ...] = ()


FLAC = Codec("audio/flac", "flac", "flac")
OPUS = Codec(
    "audio/ogg",
    "ogg",
    "libopus",
    sample_rate=48_000,
    bit_rate=96_000,
    options=(
        ("page_duration", "200000"),  # microseconds; FFmpeg sends only full pages
    ),
)
MP3 = Codec(
    "audio/mpeg",
    "mp3",
    "libmp3lame",
    bit_rate=128_000,
    options=(  # `mp3.header` replaces both
        ("write_xing", "0"),
        ("id3v2_version", "0"),
    ),
    codec_options=(  # Both save time. Each channel is still as near to the samples as a mono file.
        ("compression_level", "7"),
        ("joint_stereo", "0"),  # else LAME models the hearing of middle and side, too
    ),
)

REPEATABLE = {"fflags": "+bitexact"}  # without it Ogg's serial number is random


class Compressed:
    length = None

    def __init__(
        self, codec: Codec, channels: int, sample_rate: int, samples: int, tags: Mapping[str, str]
    ) -> None:
        self.content_type = codec.content_type
        self._codec, self._channels, self._samples = codec, channels, samples
        self._tags = tags
        self._layout = {1: "mono", 2: "stereo"}[channels]
        self._sample_rate, self._encoded = sample_rate, 0
        self._sink = _Sink()
        options = {**REPEATABLE, **dict(codec.options)}
        self._container = av.open(self._sink, "w", format=codec.container, options=options)
        rate = codec.sample_rate or sample_rate
        self._container.metadata.update(tags)
        if "looplength" in tags:  # counted in the file's own samples
            length = int(tags["looplength"]) * rate // sample_rate
            self._container.metadata["looplength"] = str(length)
        options = dict(codec.codec_options)
        stream = self._container.add_stream(codec.codec, rate=rate, options=options)
        assert isinstance(stream, AudioStream)
        self._stream = stream
        self._stream.layout = self._layout
        if codec.bit_rate:
            self._stream.bit_rate = codec.bit_rate * channels

    def begin(self) -> bytes:
        self._container.start_encoding()
        header = self._sink.take()
        if self._codec is FLAC:
            return _with_length(header, self._samples)
        if self._codec is MP3:
            return mp3.header(self._channels, self._samples, self._tags)
        return header

    def encode(self, audio: Samples | Pcm) -> bytes:
        interleaved = pcm(audio).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=self._layout)
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
    """The file that FFmpeg writes, which cannot seek; `take` empties it."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def take(self) -> bytes:
        data, self._data = bytes(self._data), bytearray()
        return data


def _with_length(header: bytes, samples: int) -> bytes:
    """A FLAC header with the number of samples, which FFmpeg would write at the end.

    The number has 36 bits, from the low half of byte 21 on: it belongs to the stream's description
    (RFC 9639, 8.2), which stands behind the 8 bytes of `fLaC` and of the block's own header.
    """
    description = int.from_bytes(header[21:26], "big") | samples
    return header[:21] + description.to_bytes(5, "big") + header[26:]
