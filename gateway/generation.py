"""The generation of songs, across failures of engines, stubs and Triton."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

import numpy as np

from gateway.contract import Chunk, Progress, Triton
from gateway.metrics import Metrics
from gateway.models import Models
from gateway.settings import GatewaySettings
from protocol.constants import Codes
from protocol.errors import (
    EngineUnavailable,
    ModelLoading,
    QueueFull,
    ServiceError,
    TooSlow,
    TritonUnavailable,
)
from protocol.request import GenerationRequest

log = logging.getLogger(__name__)

# Errors that pass when an engine, a stub or Triton restarts; all songs return at once then, so the
# queue may be full for a while.
TRANSIENT = (EngineUnavailable, TritonUnavailable, ModelLoading, QueueFull)


@dataclass(frozen=True)
class ResumeState:
    """The part of a song that the gateway has: all codes so far, the samples per channel that the
    listener has (or does not want), and the revision of the weights."""

    samples: int
    codes: tuple[Codes, ...] = ()
    revision: str | None = None

    @property
    def frames(self) -> int:
        return sum(codes.shape[1] for codes in self.codes)

    def add(self, chunk: Chunk) -> ResumeState:
        samples = self.samples + chunk.audio.shape[1]
        return ResumeState(samples, (*self.codes, chunk.codes), chunk.revision)

    def resume(self, request: GenerationRequest) -> GenerationRequest:
        """The request for the rest of the song, which continues exactly as it would have."""
        if self.revision is None:
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

    async def generate(
        self, model: str, request: GenerationRequest, on_progress: Callable[[Progress], None]
    ) -> AsyncGenerator[Chunk, None]:
        """The song's chunks in order, from its sample `request.start` to its end, or an error.

        When the stream breaks off, the song is resumed from what the gateway has of it. Closing the
        generator cancels the song.

        Raises:
            TooSlow: the song took longer than GENERATE_TIMEOUT.
            WeightsChanged: the song cannot be resumed with the weights that the model has now.
            ServiceError: as `Triton.generate`, if nothing of the song came, or if no audio came for
                RESUME_TIMEOUT after it broke off.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._settings.generate_timeout
        state = ResumeState(samples=request.start)
        received, resume_deadline = False, None
        async with self._models.use(model):
            while state.samples < request.samples:
                try:
                    async with (
                        aclosing(self._triton.generate(model, state.resume(request))) as stream,
                        aclosing(self._while_alive(model, stream, deadline)) as responses,
                    ):
                        async for response in responses:
                            received = True
                            if isinstance(response, Chunk):
                                if resume_deadline:
                                    self._metrics.resumes.labels(model).inc()
                                resume_deadline = None
                                state = state.add(response)
                                request = replace(request, prompt_audio=None)  # its codes are here
                                if state.samples == request.samples:
                                    await _read_to_end(responses)
                                on_progress(response.progress)
                                yield response
                            else:
                                on_progress(response)
                except TRANSIENT as error:
                    resume_deadline = resume_deadline or clock() + self._settings.resume_timeout
                    if not received or clock() > resume_deadline:
                        raise
                    log.warning("%s broke off at %d samples: %s", model, state.samples, error)
                    on_progress(Progress("loading", frames=state.frames))
                    await self._wait_until_ready(model, resume_deadline)
                else:
                    if state.samples != request.samples:
                        raise EngineUnavailable(f"{model} sent another length; try again.")

    async def _while_alive(
        self, model: str, stream: AsyncIterator[Progress | Chunk], deadline: float
    ) -> AsyncGenerator[Progress | Chunk, None]:
        """The responses of a stream, until the model is dead.

        Silence alone does not prove that, so the model's status is requested then, which may raise.
        """
        clock = asyncio.get_running_loop().time
        while True:
            next_response = asyncio.ensure_future(anext(stream, None))
            try:
                while not next_response.done():
                    left = deadline - clock()
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

    async def _wait_until_ready(self, model: str, deadline: float) -> None:
        """Return when the model can generate again. After the deadline, raise the reason."""
        clock = asyncio.get_running_loop().time
        reason: ServiceError = EngineUnavailable(f"{model} does not come back; try again later.")
        while clock() < deadline:
            await asyncio.sleep(self._settings.poll_interval)
            try:
                async with timeout(deadline - clock()):
                    return await self._models.ensure_ready(model)
            except asyncio.TimeoutError:
                break
            except TRANSIENT as error:
                reason = error
        raise reason


async def _read_to_end(responses: AsyncIterator[Progress | Chunk]) -> None:
    """End the stream of a complete song, so that a client that leaves now does not cancel it."""
    with suppress(*TRANSIENT):
        async for _ in responses:
            pass
