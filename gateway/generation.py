"""The generation of songs, across failures of engines, stubs and Triton."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from gateway.contract import Chunk, Progress, Triton
from gateway.metrics import Metrics
from gateway.models import Models
from gateway.settings import GatewaySettings
from protocol.constants import Codes
from protocol.errors import (
    EngineUnavailable,
    Internal,
    ModelLoading,
    ServiceError,
    TooSlow,
    TritonUnavailable,
)
from protocol.request import GenerationRequest

log = logging.getLogger(__name__)

# Errors that pass when an engine, a stub or Triton restarts.
TRANSIENT = (EngineUnavailable, TritonUnavailable, ModelLoading)


@dataclass(eq=False)
class ResumeState:
    """The part of a song that the gateway has: all codes so far, the samples per channel that the
    listener has (or does not want), the revision of the weights, and when the engine accepted it.
    As soon as a chunk has the whole chroma of its melody, `request` holds that in place of the
    audio.
    """

    request: GenerationRequest
    codes: list[Codes] = field(default_factory=list)
    revision: str | None = None
    arrival_time: int | None = None
    lost_at: float | None = None
    away: float = 0.0  # seconds from losses to responses, since the last audio
    back: asyncio.Event = field(default_factory=asyncio.Event)  # clear while it is lost

    def __post_init__(self) -> None:
        self.samples = self.request.start
        self.back.set()

    @property
    def accepted(self) -> bool:
        return self.arrival_time is not None

    @property
    def complete(self) -> bool:
        return self.samples == self.request.samples

    @property
    def broken(self) -> bool:
        """Whether it broke off since its last audio."""
        return self.lost_at is not None or self.away > 0

    @property
    def frames(self) -> int:
        return sum(codes.shape[1] for codes in self.codes)

    def add(self, response: Progress | Chunk, now: float) -> None:
        if not self.accepted:
            self.arrival_time = time.time_ns()
        if self.lost_at is not None:
            self.away += now - self.lost_at
            self.lost_at = None
            self.back.set()
        if isinstance(response, Chunk):
            self.away = 0.0
            self.samples += response.audio.shape[1]
            self.codes.append(response.codes)
            self.revision = response.revision
            # The first codes are all those of its audio, which is large.
            self.request = replace(self.request, prompt_audio=None)
            if response.chroma.size:
                self.request = self.request.following(response.chroma)

    def lose(self, now: float, timeout: float) -> float:
        """The song broke off. Return when it will have been away for `timeout` seconds."""
        if self.accepted:
            self.back.clear()
        if self.lost_at is None:
            self.lost_at = now
        return self.lost_at + timeout - self.away

    def rest(self) -> GenerationRequest:
        """The request for the rest of the song, which continues exactly as it would have."""
        request = replace(self.request, arrival_time=self.arrival_time)
        if not self.codes:
            return request
        codes = np.concatenate(self.codes, axis=1)
        return replace(request, codes=codes, start=self.samples, revision=self.revision)


class Generation:
    def __init__(
        self, triton: Triton, models: Models, settings: GatewaySettings, metrics: Metrics
    ) -> None:
        self._triton = triton
        self._models = models
        self._settings = settings
        self._metrics = metrics
        self._songs: defaultdict[str, set[ResumeState]] = defaultdict(set)  # by model

    async def generate(
        self,
        model: str,
        request: GenerationRequest,
        on_response: Callable[[Progress | Chunk], None],
    ) -> AsyncGenerator[Chunk, None]:
        """The song's chunks in order, from its sample `request.start` to its end, or an error.

        When the stream breaks off, the song is resumed from what the gateway has of it, and keeps
        its place: before all songs that no engine has accepted yet. Closing the generator cancels
        the song.

        Raises:
            TooSlow: the song took longer than GENERATE_TIMEOUT.
            WeightsChanged: the song cannot be resumed with the weights that the model has now.
            ServiceError: as `Models.ensure_ready`, as `Triton.generate` for a song that is refused,
                or why the model was away for RESUME_TIMEOUT.
        """
        start, state, songs = time.monotonic(), ResumeState(request), self._songs[model]
        del request  # its audio is large
        deadline = start + self._settings.generate_timeout
        with self._models.use(model):
            songs.add(state)
            try:
                ready = partial(self._models.ensure_ready, model)
                await self._retry(ready, TritonUnavailable, start + self._settings.resume_timeout)
                while not state.complete:
                    try:
                        async with aclosing(self._responses(model, state, deadline)) as responses:
                            async for response in responses:
                                on_response(response)
                                if isinstance(response, Chunk):
                                    yield response
                    except TRANSIENT as error:
                        on_response(Progress("loading", frames=state.frames))
                        await self._recover(model, state, error)
            finally:
                songs.remove(state)
                state.back.set()

    async def _responses(
        self, model: str, state: ResumeState, deadline: float
    ) -> AsyncGenerator[Progress | Chunk, None]:
        """The responses to a request for the rest of the song. They are part of `state`."""
        if not state.accepted:
            for song in [*self._songs[model]]:
                await song.back.wait()
        async with (
            aclosing(self._triton.generate(model, state.rest())) as stream,
            aclosing(self._while_alive(model, stream, deadline)) as responses,
        ):
            async for response in responses:
                if state.broken and isinstance(response, Chunk):
                    self._metrics.resumes.labels(model).inc()
                state.add(response, time.monotonic())
                if state.complete:
                    await _read_to_end(responses)
                yield response
        if not state.complete:
            log.error("%s sent %d samples", model, state.samples)
            raise Internal("The model sent a song of another length; try again.")

    async def _recover(self, model: str, state: ResumeState, error: ServiceError) -> None:
        """Return when the model takes the song again, or raise why it was away for too long."""
        now = time.monotonic()
        deadline = state.lose(now, self._settings.resume_timeout)
        if now > deadline:
            raise error
        log.warning("%s broke off at %d samples: %s", model, state.samples, error)
        await asyncio.sleep(self._settings.poll_interval)
        await self._retry(partial(self._models.ensure_open, model), TRANSIENT, deadline)

    async def _retry(
        self,
        call: Callable[[], Awaitable[None]],
        transient: type[ServiceError] | tuple[type[ServiceError], ...],
        deadline: float,
    ) -> None:
        """Call until it succeeds. From the deadline on, raise also what is transient."""
        while True:
            try:
                return await call()
            except transient:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(self._settings.poll_interval)

    async def _while_alive(
        self, model: str, stream: AsyncIterator[Progress | Chunk], deadline: float
    ) -> AsyncGenerator[Progress | Chunk, None]:
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
                        await self._triton.status(model)
            finally:
                if not next_response.done():
                    next_response.cancel()
                    with suppress(asyncio.CancelledError):
                        await next_response
            response = next_response.result()
            if response is None:
                return
            yield response


async def _read_to_end(responses: AsyncIterator[Progress | Chunk]) -> None:
    """End the stream of a complete song, so that a client that leaves now does not cancel it."""
    with suppress(*TRANSIENT):
        async for _ in responses:
            pass
