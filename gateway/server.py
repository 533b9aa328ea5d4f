"""A Triton server of a pool, as the gateway knows it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from gateway.contract import TRANSIENT, Failed, Loading, Ready, Status, Triton, Unreachable
from gateway.resume_state import ResumeState
from protocol.errors import QueueFull, ServiceError, WeightsChanged

log = logging.getLogger(__name__)

ASK_TIMEOUT = 2.0  # seconds for a STATUS, which takes some milliseconds


@dataclass(eq=False)
class Server:
    """`status` is the last that is known. `songs` are those of this gateway, `others` those of
    other gateways; it generates as many at a time as it has `slots`."""

    model: str
    address: str
    triton: Triton
    status: Status = field(default_factory=Loading)
    songs: int = 0
    others: int = 0
    slots: int = 1

    @property
    def load(self) -> float:
        """Songs for each slot."""
        return (self.songs + self.others) / self.slots

    @property
    def is_ready(self) -> bool:
        return isinstance(self.status, Ready)

    def refusal(self, song: ResumeState | None) -> ServiceError | None:
        """The reason why it does not take the song; None if it does. Without a song: the reason why
        it takes none at all.

        One that broke off goes on with its own weights alone, and the queue has a place for it.
        """
        if not isinstance(self.status, Ready):
            return self._problem
        if song and song.revision not in (None, self.status.revision):
            return WeightsChanged("No server has the weights with which the song began.")
        if song and not song.accepted and (seconds := self.status.full_for):
            problem = f"All servers of {self.model!r} are full; ask again in {seconds} s."
            return QueueFull(problem, retry_after=seconds)
        return None

    @property
    def _problem(self) -> ServiceError | None:
        if isinstance(self.status, Loading):
            return self.status.error(self.model)
        return self.status.error if isinstance(self.status, Failed) else None

    async def ask(self) -> None:
        """Ask for its status. It has the songs that it had when it was asked, and some of this
        gateway's may have begun or ended since."""
        before = self.songs
        try:
            status = await asyncio.wait_for(self.triton.status(self.model), ASK_TIMEOUT)
        except asyncio.TimeoutError:
            self.set(Failed(Unreachable(f"silent for {ASK_TIMEOUT:g} s")))
        except ServiceError as error:
            self.set(Failed(error))
        else:
            if isinstance(status, Ready):
                self.others, self.slots = max(0, status.songs - before), max(1, status.slots)
            self.set(status)

    def set(self, status: Status) -> None:
        before, self.status = self._problem, status
        if getattr(before, "message", "") == getattr(self._problem, "message", ""):
            return
        text = f"takes no songs: {self._problem}" if self._problem else "takes songs"
        level = logging.WARNING if self._problem else logging.INFO
        log.log(level, "%s at %s %s", self.model, self.address, text)

    @contextmanager
    def song(self) -> Iterator[Triton]:
        """Give it a song inside the block."""
        self.songs += 1
        try:
            yield self.triton
        except TRANSIENT as error:
            self.set(Failed(error))
            raise
        finally:
            self.songs -= 1
