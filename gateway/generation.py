"""One song on its way from Triton to a caller."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

from gateway.contract import Chunk, Triton
from gateway.errors import EngineUnavailable, TooSlow
from gateway.settings import Settings
from gateway.song import Song


async def generate(
    triton: Triton, model: str, song: Song, settings: Settings
) -> AsyncGenerator[Chunk, None]:
    """The song's chunks in order: all of its samples, or an error.

    Raises `TooSlow` after GENERATE_TIMEOUT, `EngineUnavailable` when the engine falls silent or
    sends another length, and what `Triton.generate` raises. Closing it cancels the song.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + settings.generate_timeout
    received = 0
    async with aclosing(triton.generate(model, song)) as events:
        while True:
            try:
                async with timeout(min(settings.silence_timeout, deadline - clock())):
                    event = await anext(events, None)
            except asyncio.TimeoutError:
                if clock() >= deadline:
                    limit = f"{settings.generate_timeout:g} s"
                    raise TooSlow(
                        f"The song took over {limit}; ask again later, or for a shorter one."
                    ) from None
                raise EngineUnavailable(f"{model} fell silent; try again soon.") from None
            if event is None:
                break
            if isinstance(event, Chunk):
                received += event.audio.shape[1]
                yield event
    if received != song.samples:
        raise EngineUnavailable(f"{model} sent a song of another length; try again.")
