"""The progress of songs, which clients follow by the name of their request."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.contract import Progress
from gateway.resume_state import ResumeState
from protocol.constants import FRAME_RATE
from protocol.errors import Internal, InvalidField, NotFound, ServiceError
from protocol.request import GenerationRequest

KEPT = 60.0  # seconds after the end of a song
FAULT = "Something went wrong in the gateway; its log says what."
NAME = re.compile(r"[\w.-]{8,64}", re.ASCII)


@dataclass
class Job:
    """The progress of one song; its state is `receiving` until the gateway knows the request.
    `first` is the time and the number of frames from which its speed is measured. With `to_measure`
    the whole song is still to be measured, in the state `measuring`, before the response begins."""

    model: str | None = None
    total_frames: int = 0
    state: ResumeState | None = None  # from when its files have been read
    receipt: Callable[[GenerationRequest], dict[str, Any]] = field(init=False)  # as state
    loop: bool = False
    progress: Progress = field(default_factory=lambda: Progress("receiving"))
    changes: int = 0
    error: dict[str, Any] | None = None  # not the exception, whose traceback holds files
    first: tuple[float, int] | None = None
    to_measure: bool = False

    def begin(self, model: str, frames: int) -> None:
        self.model, self.total_frames = model, frames
        self.on_progress(Progress("loading"))

    def request_state(self) -> ResumeState:
        """Raise `NotFound` until its files have been read."""
        if self.state is None:
            raise NotFound("The request for this song is still being received; try again.")
        return self.state

    def describe(self) -> dict[str, Any]:
        """The body of a request for the same song. Raise `NotFound` as `request_state`."""
        return self.receipt(self.request_state().request)

    def on_progress(self, progress: Progress) -> None:
        self.changes += 1
        frames = max(progress.frames, self.progress.frames)  # a resumed song keeps its frames
        state = "measuring" if progress.state == "done" and self.to_measure else progress.state
        self.progress = replace(progress, state=state, frames=frames)
        if progress.state != "generating":
            self.first = None
        elif self.first is None:
            self.first = time.monotonic(), frames

    def finish(self) -> None:
        """The song is measured."""
        self.to_measure = False
        self.on_progress(replace(self.progress, state="done"))

    @property
    def ended(self) -> bool:
        return self.progress.state in ("done", "failed", "cancelled")

    def snapshot(self) -> dict[str, Any]:
        frames, speed = self.progress.frames, self._speed()
        return {
            "model": self.model,
            "state": self.progress.state,
            "position": self.progress.position,
            "seconds": frames / FRAME_RATE,
            "total_seconds": self.total_frames / FRAME_RATE if self.model else None,
            "steps_per_second": round(speed, 1) if speed else None,
            "seconds_left": round((self.total_frames - frames) / speed, 1) if speed else None,
            "error": self.error,
        }

    def _speed(self) -> float | None:
        """Frames a second since `first`."""
        if self.first is None or self.progress.state != "generating":
            return None
        since, frames = self.first
        seconds = time.monotonic() - since
        return (self.progress.frames - frames) / seconds if seconds > 0 else None


class Jobs:
    """The jobs in progress, and those that ended in the last minute. Each owner has names of its
    own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._jobs: dict[tuple[str | None, str], Job] = {}
        self._ended: dict[tuple[str | None, str], float] = {}  # in the order of their ends

    @contextmanager
    def follow(self, name: str | None, job: Job, owner: str | None = None) -> Iterator[Job]:
        """Let clients find the job by its name, inside the block and a minute longer.

        Raises:
            InvalidField: another job in progress has the name.
        """
        self._forget()
        if name is not None:
            if (owner, name) in self._jobs and not self._jobs[owner, name].ended:
                raise InvalidField(
                    f"X-Request-Id {name!r} is that of another song; give a new one."
                )
            self._ended.pop((owner, name), None)
            self._jobs[owner, name] = job
        try:
            yield job
        except (asyncio.CancelledError, ConnectionError):  # the client closed the connection
            job.on_progress(Progress("cancelled"))
            raise
        except Exception as error:
            job.error = public(visible(error))
            job.on_progress(Progress("failed"))
            raise
        finally:
            # A job is done before its last byte is sent: a new job may have its name by now.
            if name is not None and self._jobs.get((owner, name)) is job:
                self._ended[owner, name] = self._clock()

    def find(self, name: str, owner: str | None = None) -> Job:
        """The owner's job of that name. Raise `NotFound` when there is none."""
        self._forget()
        if (owner, name) not in self._jobs:
            raise NotFound(f"No song is called {name[:64]!r}, or it ended over a minute ago.")
        return self._jobs[owner, name]

    def _forget(self) -> None:
        while self._ended and self._clock() - self._ended[key := next(iter(self._ended))] >= KEPT:
            del self._jobs[key], self._ended[key]


def name_of(header: str | None) -> str | None:
    """The name that an X-Request-Id gives to a request; None for an id of another form, which a
    proxy may have added."""
    return header if header and NAME.fullmatch(header) else None


def visible(error: Exception) -> ServiceError:
    """The error that clients may see."""
    return error if isinstance(error, ServiceError) else Internal(FAULT)


def public(error: ServiceError) -> dict[str, Any]:
    """An error as clients see it, whether as a response or in a song's progress."""
    return {name: value for name, value in error.data().items() if name != "retry_after"}
