"""The file formats of songs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from gateway.audio.compressed import FLAC, MP3, OPUS, Compressed
from gateway.audio.wav import Pcm, Wav
from protocol.constants import Samples


class Encoder(Protocol):
    """Writes one file: `begin`, `encode` for each slice of audio, `end`; `close` in any case.

    `length` is the number of bytes of the whole file, None where it is known at its end only.
    """

    @property
    def content_type(self) -> str: ...

    @property
    def length(self) -> int | None: ...

    def begin(self) -> bytes: ...

    def encode(self, audio: Samples | Pcm) -> bytes: ...

    def end(self) -> bytes: ...

    def close(self) -> None: ...


# channels, sample rate, samples per channel, tags
NewEncoder = Callable[[int, int, int, Mapping[str, str]], Encoder]
FORMATS: dict[str, NewEncoder] = {
    "wav": Wav,
    "flac": partial(Compressed, FLAC),
    "ogg": partial(Compressed, OPUS),
    "mp3": partial(Compressed, MP3),
}
MEDIA_TYPES = {
    "audio/wav": "wav", "audio/wave": "wav", "audio/x-wav": "wav", "audio/vnd.wave": "wav",
    "audio/flac": "flac", "audio/x-flac": "flac", "audio/ogg": "ogg", "audio/opus": "ogg",
    "audio/mpeg": "mp3", "audio/mp3": "mp3",
}  # fmt: skip


def preferred(accept: str) -> str:
    """The format that an Accept header prefers among ours, WAV where it names none of them."""
    entries = [_quality(entry) for entry in accept.lower().split(",")]
    known = [(quality, media) for quality, media in entries if quality > 0 and media in MEDIA_TYPES]
    return MEDIA_TYPES[max(known, key=lambda entry: entry[0])[1]] if known else "wav"


def _quality(entry: str) -> tuple[float, str]:
    """Quality and media type of an entry such as `audio/flac;q=0.5` (RFC 9110, 12.5.1)."""
    media, *parameters = (part.strip() for part in entry.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return float(value), media
            except ValueError:
                return 0.0, media
    return 1.0, media
