"""How far songs are, for those who gave theirs a name."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.contract import Progress
from gateway.errors import GatewayError, InvalidField, NotFound
from gateway.song import FRAMES_PER_SECOND

KEPT = 60.0  # seconds, after the end
NAME = re.compile(r"[\w.-]{8,64}", re.ASCII)


@dataclass
class Job:
    """One request. `first` is when frames were first counted, and how many there were."""

    model: str
    total_frames: int
    progress: Progress = field(default_factory=lambda: Progress("loading"))
    error: GatewayError | None = None
    first: tuple[float, int] | None = None

    def hear(self, progress: Progress) -> None:
        frames = max(progress.frames, self.progress.frames)  # those of a song that goes on stay
        self.progress = replace(progress, frames=frames)
        if progress.state != "generating":
            self.first = None
        elif self.first is None:
            self.first = time.monotonic(), frames

    @property
    def ended(self) -> bool:
        return self.progress.state in ("done", "failed", "cancelled")

    def snapshot(self) -> dict[str, Any]:
        frames, speed = self.progress.frames, self._speed()
        return {
            "model": self.model,
            "state": self.progress.state,
            "position": self.progress.position,
            "seconds": frames / FRAMES_PER_SECOND,
            "total_seconds": self.total_frames / FRAMES_PER_SECOND,
            "steps_per_second": round(speed, 1) if speed else None,
            "seconds_left": round((self.total_frames - frames) / speed, 1) if speed else None,
            "error": self.error.body()["error"] if self.error else None,
        }

    def _speed(self) -> float | None:
        """Frames a second, since the first."""
        if self.first is None or self.progress.state != "generating":
            return None
        since, frames = self.first
        seconds = time.monotonic() - since
        return (self.progress.frames - frames) / seconds if seconds > 0 else None


class Jobs:
    """Those under way, and those that ended in the last minute. Names are each owner's own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._jobs: dict[tuple[str | None, str], Job] = {}
        self._ended: dict[tuple[str | None, str], float] = {}  # in the order of their ends

    @contextmanager
    def follow(self, name: str | None, job: Job, owner: str | None = None) -> Iterator[Job]:
        """Inside, `name` finds the job. Raises `InvalidField` when it finds another one."""
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
        except asyncio.CancelledError:  # nobody waits for it any more
            job.progress = Progress("cancelled", frames=job.progress.frames)
            raise
        except Exception as error:
            job.error = error if isinstance(error, GatewayError) else None
            job.progress = Progress("failed", frames=job.progress.frames)
            raise
        finally:
            # One that was made, but not yet heard to its end, may have left its name to another.
            if name is not None and self._jobs.get((owner, name)) is job:
                self._ended[owner, name] = self._clock()

    def find(self, name: str, owner: str | None = None) -> Job:
        """Raises `NotFound`, also for what is somebody else's."""
        self._forget()
        if (owner, name) not in self._jobs:
            raise NotFound(f"No song is called {name[:64]!r}, or it ended over a minute ago.")
        return self._jobs[owner, name]

    def _forget(self) -> None:
        while self._ended and self._clock() - self._ended[key := next(iter(self._ended))] >= KEPT:
            del self._jobs[key], self._ended[key]


def name_of(header: str | None) -> str | None:
    """The name that a caller gave to a request; one of another kind, as of a proxy, is none."""
    return header if header and NAME.fullmatch(header) else None
