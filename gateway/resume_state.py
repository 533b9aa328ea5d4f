"""The part of a song that the gateway has, with which another engine can go on."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field, replace

import numpy as np

from gateway.contract import Changed, Chunk, Progress, Triton
from protocol.constants import Codes
from protocol.errors import ServiceError
from protocol.request import GenerationRequest


@dataclass(eq=False)
class ResumeState:
    """The part of a song that the gateway has: all codes so far, the samples per channel that the
    listener has (or does not want), the revision of the weights, and when the engine accepted it.
    As soon as a chunk has the whole chroma of its melody, `request` holds that in place of the
    audio. After a change it has the new sections.

    `server` makes it, or was the last that did. `number` names the song for the engine there; 0 for
    none. `answered`: that engine has the song. `changed` is the last change of which an engine
    told. `refusals` are those of servers without room for it, since it broke off last.
    """

    model: str
    request: GenerationRequest
    codes: list[Codes] = field(default_factory=list)
    revision: str | None = None
    arrival_time: int | None = None
    lost_at: float | None = None
    away: float = 0.0  # seconds from losses to responses, since the last audio
    back: asyncio.Event = field(default_factory=asyncio.Event)  # clear while it is lost
    server: Triton | None = None
    refusals: dict[Triton, ServiceError] = field(default_factory=dict)
    number: int = 0
    answered: bool = False
    changed: Changed | None = None
    ended: bool = False
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.samples = self.request.start
        self.back.set()

    def begin(self, server: Triton) -> int:
        """A server is asked for the rest of the song, by the number that this returns."""
        self.server, self.number, self.answered = server, secrets.randbits(63) or 1, False
        self.changed = None
        return self.number

    def leave(self) -> None:
        """No engine is making it."""
        self.number, self.answered = 0, False
        self._announce()

    def end(self) -> None:
        """The song is made no more. Its progress is kept for some time; its audio and codes, which
        are large, are not."""
        self.ended = True
        self.request = replace(self.request, prompt_audio=None, melody=None)
        self.codes.clear()
        self.refusals.clear()
        self.back.set()
        self._announce()

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def news(self) -> None:
        """Return when the engine responds, or another one has the song, or none."""
        await self._news.wait()

    def take(self, changed: Changed) -> None:
        """The engine changed the song. Its reply and the song's stream tell of it, in any order."""
        if self.changed is None or changed.frame >= self.changed.frame:
            self.changed = changed
            self.request = self.request.with_sections(changed.sections)

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
            self.take(response)
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
        self.refusals.clear()
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
