"""Which song is next, and how many may wait. No tensors here."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from musicgen_engine.errors import QueueFull
from musicgen_engine.song import Song


@dataclass
class Task:
    """A song on its way through the engine."""

    id: int
    song: Song
    frames_done: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)

    def status(self, state: str = "generating") -> dict[str, Any]:
        return {"state": state, "frames": self.frames_done, "total_frames": self.song.frames}


class Scheduler:
    """First come, first served, one song at a time, within a bounded queue."""

    def __init__(self, max_queue: int) -> None:
        self._max_queue = max_queue
        self._waiting: deque[Task] = deque()
        self._running: Task | None = None
        self._changed = threading.Condition()

    def submit(self, task: Task) -> None:
        """Raises QueueFull."""
        with self._changed:
            if len(self._waiting) >= self._max_queue:
                raise QueueFull(f"{len(self._waiting)} songs wait already; ask again later")
            self._waiting.append(task)
            self._changed.notify()

    def cancel(self, id: int) -> Task | None:
        """Drops the song if it waits (and returns it); tells it to stop if it runs."""
        with self._changed:
            if self._running and self._running.id == id:
                self._running.cancelled.set()
                return None
            dropped = next((task for task in self._waiting if task.id == id), None)
            if dropped:
                self._waiting.remove(dropped)
            return dropped

    def next(self) -> Task:
        """Waits for a song and makes it the running one."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            self._running = self._waiting.popleft()
            return self._running

    def retire(self) -> None:
        """The running song has ended."""
        with self._changed:
            self._running = None

    def counts(self) -> dict[str, int]:
        with self._changed:
            return {"queued": len(self._waiting), "running": int(self._running is not None)}

    def statuses(self) -> dict[int, dict[str, Any]]:
        """The status of every song, by its id."""
        with self._changed:
            statuses = {
                task.id: {"state": "queued", "position": position}
                for position, task in enumerate(self._waiting, start=1)
            }
            if self._running:
                statuses[self._running.id] = self._running.status()
            return statuses
