"""The formats that a song can have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.compressed import FLAC, MP3, OPUS, Compressed
from gateway.errors import InvalidField
from gateway.wav import Wav


class Encoder(Protocol):
    """Bytes of one file, in order: `begin`, `encode` for each piece of audio, `end`. `length` is
    that of the file, None where it cannot be known. `close` it in any case."""

    @property
    def content_type(self) -> str: ...

    @property
    def length(self) -> int | None: ...

    def begin(self) -> bytes: ...

    def encode(self, audio: NDArray[np.float32]) -> bytes:
        """float32 [channels, samples]; full scale is 1."""

    def end(self) -> bytes: ...

    def close(self) -> None: ...


# channels, samples a second, samples per channel, tags
New = Callable[[int, int, int, Mapping[str, str]], Encoder]
FORMATS: dict[str, New] = {
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


def choose(wanted: str | None, accept: str) -> str:
    """`wanted`, else what the Accept header likes best of all that we have, else WAV.

    Raises `InvalidField`.
    """
    if wanted is not None:
        if wanted.lower() not in FORMATS:
            raise InvalidField(f"format is {wanted[:100]!r}; give {', '.join(FORMATS)}.", "format")
        return wanted.lower()
    liked = [_quality(entry) for entry in accept.lower().split(",")]
    liked = [(quality, media) for quality, media in liked if quality > 0 and media in MEDIA_TYPES]
    return MEDIA_TYPES[max(liked, key=lambda entry: entry[0])[1]] if liked else "wav"


def _quality(entry: str) -> tuple[float, str]:
    """RFC 9110, 12.5.1: `audio/flac;q=0.5`."""
    media, *parameters = (part.strip() for part in entry.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return float(value), media
            except ValueError:
                return 0.0, media
    return 1.0, media
