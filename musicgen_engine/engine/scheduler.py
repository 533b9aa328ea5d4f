"""Who plays, who waits, and how many may. No tensors here."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from musicgen_engine.errors import QueueFull
from musicgen_engine.song import Song


@dataclass(eq=False)
class Task:
    """A song on its way through the engine."""

    id: int
    song: Song
    frames_done: int = 0
    slot: int = -1  # its place among those that play
    cancelled: threading.Event = field(default_factory=threading.Event)

    def status(self, state: str = "generating") -> dict[str, Any]:
        return {"state": state, "frames": self.frames_done, "total_frames": self.song.frames}


class Scheduler:
    """First come, first served: a fixed number of slots behind a bounded queue."""

    def __init__(self, max_queue: int) -> None:
        self._max_queue = max_queue
        self._waiting: deque[Task] = deque()
        self._playing: dict[int, Task] = {}
        self._slots: list[int] = []  # free; none before the model is loaded
        self._changed = threading.Condition()

    def open(self, slots: int) -> None:
        """The model is loaded, and has so many slots."""
        with self._changed:
            self._slots = list(reversed(range(slots)))
            self._changed.notify()

    def submit(self, task: Task) -> None:
        """Raises QueueFull."""
        with self._changed:
            if len(self._waiting) >= self._max_queue + len(self._slots):
                raise QueueFull(f"{len(self._waiting)} songs wait already; ask again later")
            self._waiting.append(task)
            self._changed.notify()

    def cancel(self, id: int) -> Task | None:
        """Drops the song if it waits (and returns it); tells it to stop if it plays."""
        with self._changed:
            if id in self._playing:
                self._playing[id].cancelled.set()
                return None
            dropped = next((task for task in self._waiting if task.id == id), None)
            if dropped:
                self._waiting.remove(dropped)
            return dropped

    def wait(self) -> None:
        """Until somebody plays, or could."""
        with self._changed:
            self._changed.wait_for(lambda: self._playing or (self._waiting and self._slots))

    def admit(self) -> Task | None:
        """Gives a free slot to who has waited longest; it plays from now on."""
        with self._changed:
            if not (self._waiting and self._slots):
                return None
            task = self._waiting.popleft()
            task.slot = self._slots.pop()
            self._playing[task.id] = task
            return task

    def retire(self, task: Task) -> None:
        """The song has ended, well or not."""
        with self._changed:
            del self._playing[task.id]
            self._slots.append(task.slot)

    def counts(self) -> dict[str, int]:
        with self._changed:
            return {"queued": len(self._waiting), "running": len(self._playing)}

    def statuses(self) -> dict[int, dict[str, Any]]:
        """The status of every song, by its id."""
        with self._changed:
            waiting = {
                task.id: {"state": "queued", "position": position}
                for position, task in enumerate(self._waiting, start=1)
            }
            return waiting | {task.id: task.status() for task in self._playing.values()}
