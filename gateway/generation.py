"""The generation of songs, across failures of engines, stubs and Triton."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractContextManager, aclosing, suppress
from typing import Any

from gateway.contract import TRANSIENT, Changed, Chunk, Progress, Triton
from gateway.metrics import Metrics
from gateway.models import Models
from gateway.pools import Pools
from gateway.request import check_change
from gateway.resume_state import ResumeState
from gateway.settings import GatewaySettings
from protocol.errors import (
    EngineUnavailable,
    Internal,
    ModelLoading,
    QueueFull,
    ServiceError,
    SharedMemoryFull,
    SongEnded,
    TooSlow,
    TritonUnavailable,
)
from protocol.tracing import Stages

log = logging.getLogger(__name__)

CHANGE_TIMEOUT = 20.0  # seconds in which a change takes effect, or is refused
NO_ROOM = (QueueFull, SharedMemoryFull)  # errors of a server for a song that another may take


class Generation:
    def __init__(self, models: Models | Pools, settings: GatewaySettings, metrics: Metrics) -> None:
        self._models = models
        self._settings = settings
        self._metrics = metrics
        self._songs: defaultdict[str, set[ResumeState]] = defaultdict(set)  # by model

    async def generate(
        self, state: ResumeState, on_progress: Callable[[Progress], None]
    ) -> AsyncGenerator[Chunk, None]:
        """The song's chunks in order, from its sample `request.start` to its end, or an error.

        When the stream breaks off, the song is resumed from what the gateway has of it, on the same
        server or another one. There it comes before all songs that no engine has accepted yet.
        Closing the generator cancels the song.

        Raises:
            TooSlow: the song took longer than GENERATE_TIMEOUT.
            WeightsChanged: the song cannot be resumed with the weights that the model has now.
            ServiceError: as `server` of the models, as `Triton.generate` for a song that is
                refused, or why the model was away for RESUME_TIMEOUT.
        """
        start, model, songs = time.monotonic(), state.model, self._songs[state.model]
        stages = Stages()
        stages.enter("loading")
        deadline = start + self._settings.generate_timeout
        with self._models.use(model):
            songs.add(state)
            try:
                until = start + self._settings.resume_timeout
                server = await self._server(state, TritonUnavailable, until)
                while not state.complete:
                    try:
                        with server as triton:
                            responses = self._responses(triton, state, deadline)
                            async with aclosing(responses):
                                async for response in responses:
                                    if isinstance(response, Chunk):
                                        stages.audio()
                                        on_progress(response.progress)
                                        yield response
                                    elif isinstance(response, Progress):
                                        stages.enter(response.state)
                                        on_progress(response)
                    except NO_ROOM as error:
                        state.refusals[triton] = error
                        server = await self._models.server(state)
                    except TRANSIENT as error:
                        stages.end(error)
                        stages.enter("resuming")
                        on_progress(Progress("loading", frames=state.frames))
                        server = await self._recover(state, error)
            finally:
                songs.remove(state)
                state.end()
                stages.end()

    async def change(self, state: ResumeState, values: dict[str, Any]) -> int:
        """Change the song from its next frame on; returns that frame. `values` are fields of a
        section. Only an engine knows whether its model can make the song so: the change waits until
        one has the song, and has loaded the model. If it dies meanwhile, the next one gets it.

        Raises:
            InvalidField, SongEnded, TooManyChanges
            QueueFull: a blend needs more slots, and none is free.
            EngineUnavailable: no engine has answered for some time, or it still loads.
        """
        check_change(values)
        try:
            return await asyncio.wait_for(self._change(state, values), CHANGE_TIMEOUT)
        except asyncio.TimeoutError:
            problem = "The engine of this song loads, or does not answer; try again soon."
            raise EngineUnavailable(problem) from None

    async def _change(self, state: ResumeState, values: dict[str, Any]) -> int:
        async with state.changing:
            while not state.ended:
                if not state.answered:
                    await state.news()
                elif changed := await self._change_in_engine(state, values):
                    return changed.frame
        raise SongEnded("The song has ended; make another.")

    async def _change_in_engine(self, state: ResumeState, values: dict[str, Any]) -> Changed | None:
        """None: that engine has lost the song and told of no change, or still loads the model."""
        number, before, ended = state.number, state.changed, None
        assert state.server
        try:
            reply = await state.server.change(state.model, number, values)
        except SongEnded as error:
            ended = error
        except ModelLoading:
            await asyncio.sleep(self._settings.poll_interval)
            return None
        except TRANSIENT:
            pass  # the song's stream may tell of the change all the same
        else:
            state.take(reply)
            return reply
        deadline = time.monotonic() + self._settings.poll_interval
        while state.number == number and not state.ended and state.changed is before:
            if ended and time.monotonic() > deadline:
                raise ended
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(state.news(), self._settings.poll_interval)
        return None if state.changed is before else state.changed

    async def _responses(
        self, triton: Triton, state: ResumeState, deadline: float
    ) -> AsyncGenerator[Progress | Chunk | Changed, None]:
        """The responses to a request for the rest of the song. They are part of `state`."""
        model = state.model
        if not state.accepted:
            for song in [*self._songs[model]]:
                if song.server is triton:
                    await song.back.wait()
        try:
            async with (
                aclosing(triton.generate(model, state.rest(), state.begin(triton))) as stream,
                aclosing(self._while_alive(triton, model, stream, deadline)) as responses,
            ):
                async for response in responses:
                    if state.broken and isinstance(response, Chunk):
                        self._metrics.resumes.labels(model).inc()
                    state.add(response, time.monotonic())
                    if state.complete:
                        await _read_to_end(responses)
                    yield response
        finally:
            state.leave()
        if not state.complete:
            log.error("%s sent %d samples", model, state.samples)
            raise Internal("The model sent a song of another length; try again.")

    async def _recover(
        self, state: ResumeState, error: ServiceError
    ) -> AbstractContextManager[Triton]:
        """Return when a server takes the song again, or raise why none did for too long."""
        now = time.monotonic()
        deadline = state.lose(now, self._settings.resume_timeout)
        if now > deadline:
            raise error
        log.warning("%s broke off at %d samples: %s", state.model, state.samples, error)
        await asyncio.sleep(self._settings.poll_interval)
        return await self._server(state, TRANSIENT, deadline)

    async def _server(
        self,
        state: ResumeState,
        transient: type[ServiceError] | tuple[type[ServiceError], ...],
        deadline: float,
    ) -> AbstractContextManager[Triton]:
        """A server for the song, as soon as there is one. From the deadline on, raise also what is
        transient."""
        while True:
            try:
                return await self._models.server(state)
            except transient:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(self._settings.poll_interval)

    async def _while_alive(
        self,
        triton: Triton,
        model: str,
        stream: AsyncIterator[Progress | Chunk | Changed],
        deadline: float,
    ) -> AsyncGenerator[Progress | Chunk | Changed, None]:
        """The responses of a stream, until the model is dead.

        Silence alone does not prove that, so the model's status is requested then, which may raise.
        """
        while True:
            next_response = asyncio.ensure_future(anext(stream, None))
            try:
                while not next_response.done():
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise TooSlow(
                            f"The song took over {self._settings.generate_timeout:g} s; "
                            "ask again later, or for a shorter one."
                        )
                    silence = min(self._settings.silence_timeout, left)
                    await asyncio.wait({next_response}, timeout=silence)
                    if not next_response.done() and silence < left:
                        await triton.status(model)
            finally:
                if not next_response.done():
                    next_response.cancel()
                    with suppress(asyncio.CancelledError):
                        await next_response
            response = next_response.result()
            if response is None:
                return
            yield response


async def _read_to_end(responses: AsyncIterator[Progress | Chunk | Changed]) -> None:
    """End the stream of a complete song, so that a client that leaves now does not cancel it."""
    with suppress(*TRANSIENT):
        async for _ in responses:
            pass
