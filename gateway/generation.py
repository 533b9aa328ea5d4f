"""The generation of songs, across failures of engines, stubs and Triton."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from gateway.contract import Changed, Chunk, Progress, Triton
from gateway.metrics import Metrics
from gateway.models import Models
from gateway.request import check_change
from gateway.settings import GatewaySettings
from protocol.constants import Codes
from protocol.errors import (
    EngineUnavailable,
    Internal,
    ModelLoading,
    ServiceError,
    SongEnded,
    TooSlow,
    TritonUnavailable,
)
from protocol.request import GenerationRequest

log = logging.getLogger(__name__)

# Errors that pass when an engine, a stub or Triton restarts.
CHANGE_TIMEOUT = 20.0  # seconds in which a change takes effect, or is refused
TRANSIENT = (EngineUnavailable, TritonUnavailable, ModelLoading)


@dataclass(eq=False)
class ResumeState:
    """The part of a song that the gateway has: all codes so far, the samples per channel that the
    listener has (or does not want), the revision of the weights, and when the engine accepted it.
    As soon as a chunk has the whole chroma of its melody, `request` holds that in place of the
    audio. After a change it has the new sections.

    `number` names the song for the engine that is making it; 0 for none. `answered`: that engine
    has the song.
    """

    model: str
    request: GenerationRequest
    codes: list[Codes] = field(default_factory=list)
    revision: str | None = None
    arrival_time: int | None = None
    lost_at: float | None = None
    away: float = 0.0  # seconds from losses to responses, since the last audio
    back: asyncio.Event = field(default_factory=asyncio.Event)  # clear while it is lost
    number: int = 0
    answered: bool = False
    ended: bool = False
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.samples = self.request.start
        self.back.set()

    def begin(self) -> int:
        """An engine is asked for the rest of the song, by the number that this returns."""
        self.number, self.answered = secrets.randbits(63) or 1, False
        return self.number

    def leave(self) -> None:
        """No engine is making it."""
        self.number, self.answered = 0, False
        self._announce()

    def end(self) -> None:
        self.ended = True
        self.back.set()
        self._announce()

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def news(self) -> None:
        """Return when the engine responds, or another one has the song, or none."""
        await self._news.wait()

    def change(self, values: dict[str, Any]) -> int:
        """Change the attributes of the section from the first frame on that is not there. Returns
        that frame."""
        first = max(self.frames, self.request.prompt_frames)
        frames = values.pop("frames", None)
        self.request = self.request.changed(first, values, frames)
        return first

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

    def add(self, response: Progress | Chunk | Changed, now: float) -> None:
        self.answered = True
        self._announce()
        if isinstance(response, Changed):
            self.request = self.request.with_sections(response.sections)
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
        self, state: ResumeState, on_progress: Callable[[Progress], None]
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
        start, model, songs = time.monotonic(), state.model, self._songs[state.model]
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
                                if isinstance(response, Chunk):
                                    on_progress(response.progress)
                                    yield response
                                elif isinstance(response, Progress):
                                    on_progress(response)
                    except TRANSIENT as error:
                        on_progress(Progress("loading", frames=state.frames))
                        await self._recover(model, state, error)
            finally:
                songs.remove(state)
                state.end()

    async def change(self, state: ResumeState, values: dict[str, Any]) -> int:
        """Change the song from its next frame on; returns that frame. `values` are fields of a
        section. If the engine dies meanwhile, the next one gets the change.

        Raises:
            InvalidField, SongEnded, TooManyChanges
            QueueFull: a blend needs more slots, and none is free.
            EngineUnavailable: no engine has answered for some time.
        """
        attributes = check_change(values)
        try:
            change = self._change(state, values, attributes)
            return await asyncio.wait_for(change, CHANGE_TIMEOUT)
        except asyncio.TimeoutError:
            problem = "The engine of this song does not answer; try again soon."
            raise EngineUnavailable(problem) from None

    async def _change(
        self, state: ResumeState, values: dict[str, Any], attributes: dict[str, Any]
    ) -> int:
        async with state.changing:
            while not state.ended:
                if not state.number:
                    return state.change(attributes)
                if not state.answered:
                    await state.news()
                elif changed := await self._change_in_engine(state, values):
                    return changed.frame
        raise SongEnded("The song has ended; make another.")

    async def _change_in_engine(self, state: ResumeState, values: dict[str, Any]) -> Changed | None:
        """None: that engine has lost the song, with or without the change."""
        number, changed, ended = state.number, None, None
        try:
            changed = await self._triton.change(state.model, number, values)
        except SongEnded as error:
            ended = error
        except TRANSIENT:
            pass
        deadline = time.monotonic() + self._settings.poll_interval
        while state.number == number and not state.ended:
            if changed and state.request.sections == changed.sections:
                return changed  # a resumed song has it, too
            if ended and time.monotonic() > deadline:
                raise ended
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(state.news(), self._settings.poll_interval)
        return None

    async def _responses(
        self, model: str, state: ResumeState, deadline: float
    ) -> AsyncGenerator[Progress | Chunk | Changed, None]:
        """The responses to a request for the rest of the song. They are part of `state`."""
        if not state.accepted:
            for song in [*self._songs[model]]:
                await song.back.wait()
        try:
            async with (
                aclosing(self._triton.generate(model, state.rest(), state.begin())) as stream,
                aclosing(self._while_alive(model, stream, deadline)) as responses,
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
        self, model: str, stream: AsyncIterator[Progress | Chunk | Changed], deadline: float
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


async def _read_to_end(responses: AsyncIterator[Progress | Chunk | Changed]) -> None:
    """End the stream of a complete song, so that a client that leaves now does not cancel it."""
    with suppress(*TRANSIENT):
        async for _ in responses:
            pass
