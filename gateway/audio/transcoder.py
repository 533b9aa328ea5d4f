"""The encoder of songs that a client has already, as WAV."""

from __future__ import annotations

import asyncio
from contextlib import closing
from threading import Event

from gateway.audio.formats import FORMATS, NewEncoder
from gateway.audio.room import Room
from gateway.audio.wav import Recording
from protocol.constants import SAMPLE_RATE

MAX_ENCODERS = 2  # at a time
MAX_FILES = 4  # in memory at a time; each is at most the longest song
MAX_FILES_PER_CLIENT = 2
SLICE = 10 * SAMPLE_RATE  # samples; the encoder of a client that has left ends after as many


class Transcoder:
    """Encodes a few files at a time, in threads; other files wait."""

    def __init__(self) -> None:
        self.room = Room(MAX_FILES, MAX_FILES_PER_CLIENT, "files are being encoded")
        self._slots = asyncio.Semaphore(MAX_ENCODERS)

    async def encode(self, song: Recording, format: str) -> tuple[str, list[bytes]]:
        """The content type, and the file in parts."""
        left = Event()
        async with self._slots:
            try:
                return await asyncio.to_thread(_encode, FORMATS[format], song, left)
            finally:
                left.set()  # a cancelled task cannot end its thread


def _encode(new_encoder: NewEncoder, song: Recording, left: Event) -> tuple[str, list[bytes]]:
    channels, samples = song.samples.shape
    with closing(new_encoder(channels, SAMPLE_RATE, samples, song.tags)) as encoder:
        parts = [encoder.begin()]
        for begin in range(0, samples, SLICE):
            if left.is_set():
                break
            parts.append(encoder.encode(song.samples[:, begin : begin + SLICE]))
        parts.append(encoder.end())
        return encoder.content_type, parts
