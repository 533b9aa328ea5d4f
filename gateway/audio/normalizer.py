"""The songs with a loudness, each of which is in memory until its client has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterator

from gateway.audio.loudness import Level, with_loudness
from gateway.audio.room import Room
from protocol.constants import Samples

MAX_MEASURED = 2  # songs at a time; more threads would take the core from other songs
MAX_SONGS = 8  # in memory at a time; each is at most the longest song
MAX_SONGS_PER_CLIENT = 2


class Normalizer:
    """Gives songs their loudness, in threads. A song takes a place in `room` from its beginning."""

    def __init__(self) -> None:
        self.room = Room(MAX_SONGS, MAX_SONGS_PER_CLIENT, "songs with a loudness are being made")
        self._slots = asyncio.Semaphore(MAX_MEASURED)

    async def normalize(
        self, slices: AsyncIterable[Samples], target: float, loop: bool | None
    ) -> tuple[AsyncGenerator[Samples, None], Level]:
        """The song with the loudness `target`, once all its slices have come, and its level."""
        song = [part async for part in slices]
        async with self._slots:
            louder, level = await asyncio.to_thread(with_loudness, song, target, bool(loop))
        return _computed(louder), level


async def _computed(slices: Iterator[Samples]) -> AsyncGenerator[Samples, None]:
    """The slices, each computed in a thread when it is wanted."""
    while (part := await asyncio.to_thread(next, slices, None)) is not None:
        yield part
