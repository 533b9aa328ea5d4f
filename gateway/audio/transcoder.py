"""The encoder of songs that a client has already, as WAV."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from threading import Event

from gateway.audio.formats import FORMATS, Encoder
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
        self.room = Room(MAX_FILES, MAX_FILES_PER_CLIENT)
        self._slots = asyncio.Semaphore(MAX_ENCODERS)

    async def encode(self, song: Recording, format: str) -> tuple[str, list[bytes]]:
        """The content type, and the file in parts."""
        channels, samples = song.samples.shape
        encoder = FORMATS[format](channels, SAMPLE_RATE, samples, song.tags)
        left = Event()
        async with self._slots:
            try:
                parts = await asyncio.to_thread(lambda: list(_parts(encoder, song, left)))
            finally:
                left.set()  # a cancelled task cannot end its thread
        return encoder.content_type, parts


def _parts(encoder: Encoder, song: Recording, left: Event) -> Iterator[bytes]:
    with closing(encoder):
        yield encoder.begin()
        for begin in range(0, song.samples.shape[1], SLICE):
            if left.is_set():
                return
            yield encoder.encode(song.samples[:, begin : begin + SLICE])
        yield encoder.end()
