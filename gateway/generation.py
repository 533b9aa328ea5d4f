"""One song on its way from Triton to a caller."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

from gateway.contract import Chunk, Held, Progress, Triton
from gateway.errors import (
    EngineUnavailable,
    GatewayError,
    ModelLoading,
    QueueFull,
    TooSlow,
    TritonUnavailable,
)
from gateway.metrics import Metrics
from gateway.models import Models
from gateway.settings import Settings
from gateway.song import Song

log = logging.getLogger(__name__)

# What passes when an engine, a stub or Triton is started again; and then all songs return at once.
PASSING = (EngineUnavailable, TritonUnavailable, ModelLoading, QueueFull)


class Generation:
    """Songs of one gateway. They outlive engines, stubs and servers: what a listener has had is
    held, and the song goes on from there, exactly as it would have."""

    def __init__(
        self, triton: Triton, models: Models, settings: Settings, metrics: Metrics
    ) -> None:
        self._triton = triton
        self._models = models
        self._settings = settings
        self._metrics = metrics

    async def play(
        self, model: str, song: Song, held: Held, tell: Callable[[Progress], None]
    ) -> AsyncGenerator[Chunk, None]:
        """The song's chunks in order: all of its samples that are not held, or an error. Closing it
        cancels the song. Meanwhile `tell` hears how it fares.

        Raises `TooSlow` after GENERATE_TIMEOUT; what `Triton.generate` raises, where nothing was
        heard of the song or it was tried for RESUME_TIMEOUT without music; `WeightsChanged` when it
        cannot go on with the weights that are there now.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._settings.generate_timeout
        heard, patience = False, None  # until when it is tried again, once it broke off
        async with self._models.use(model):
            while held.samples < song.end:
                try:
                    async with (
                        aclosing(self._triton.generate(model, song, held)) as answers,
                        aclosing(self._while_it_lives(model, answers, deadline)) as living,
                    ):
                        async for answer in living:
                            heard = True
                            if isinstance(answer, Chunk):
                                if patience:
                                    self._metrics.resumes.labels(model).inc()
                                patience = None
                                held = held.with_(answer)
                                if held.samples == song.end:
                                    await _end(living)
                                tell(answer.progress)
                                yield answer
                            else:
                                tell(answer)
                except PASSING as error:
                    patience = patience or clock() + self._settings.resume_timeout
                    if not heard or clock() > patience:
                        raise
                    log.warning("%s broke off at %d samples: %s", model, held.samples, error)
                    tell(Progress("loading", frames=held.frames))
                    await self._revive(model, patience)
                else:
                    if held.samples != song.end:
                        raise EngineUnavailable(f"{model} sent another length; try again.")

    async def _while_it_lives(
        self, model: str, answers: AsyncIterator[Progress | Chunk], deadline: float
    ) -> AsyncGenerator[Progress | Chunk, None]:
        """What comes, for as long as the model is there. Silence alone does not prove that it is
        not: whoever is silent is asked how they are.
        """
        clock = asyncio.get_running_loop().time
        while True:
            coming = asyncio.ensure_future(anext(answers, None))
            try:
                while not coming.done():
                    left = deadline - clock()
                    if left <= 0:
                        raise TooSlow(
                            f"The song took over {self._settings.generate_timeout:g} s; "
                            "ask again later, or for a shorter one."
                        )
                    silence = min(self._settings.silence_timeout, left)
                    await asyncio.wait({coming}, timeout=silence)
                    if not coming.done() and silence < left:
                        await self._triton.status(model)
            finally:
                if not coming.done():
                    coming.cancel()
                    with suppress(asyncio.CancelledError):
                        await coming
            answer = coming.result()
            if answer is None:
                return
            yield answer

    async def _revive(self, model: str, patience: float) -> None:
        """Returns when the model can make music again. Raises why not, when patience is over."""
        clock = asyncio.get_running_loop().time
        why: GatewayError = EngineUnavailable(f"{model} does not come back; try again later.")
        while clock() < patience:
            await asyncio.sleep(self._settings.poll_interval)
            try:
                async with timeout(patience - clock()):
                    return await self._models.ensure_ready(model)
            except asyncio.TimeoutError:
                break
            except PASSING as error:
                why = error
        raise why


async def _end(answers: AsyncIterator[Progress | Chunk]) -> None:
    """Of a song that is whole: who has heard its last byte may go, and breaks no stream off."""
    with suppress(*PASSING):
        async for _ in answers:
            pass
