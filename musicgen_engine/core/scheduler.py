"""Who plays, who waits, and how many may. No tensors here."""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from protocol.errors import QueueFull
from protocol.request import Song

ROUNDS = 100  # of which the mean is what one takes


@dataclass(eq=False)
class Task:
    """A song on its way through the engine."""

    id: int
    song: Song
    request_id: str = ""  # as its caller named it
    asked: float = field(default_factory=time.monotonic)
    held: int = field(init=False)  # frames that it began with
    frames_done: int = field(init=False)
    slot: int = -1  # its place among those that play
    cancelled: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.held = self.frames_done = self.song.held

    @property
    def returns(self) -> bool:
        """Whether it was accepted before, and broke off."""
        return self.song.codes is not None

    @property
    def left(self) -> int:
        """Frames that are to be made."""
        return self.song.frames - self.frames_done

    def status(self, state: str = "generating") -> dict[str, Any]:
        return {"state": state, "frames": self.frames_done, "total_frames": self.song.frames}


class Scheduler:
    """First come, first served: a fixed number of slots behind a bounded queue, in which nobody new
    waits longer than `max_wait` seconds. Songs that return come before the new ones, and no more of
    them than there are slots: so many can have broken off."""

    def __init__(self, max_queue: int, max_wait: float = math.inf) -> None:
        self._max_queue = max_queue
        self._max_wait = max_wait
        self._rounds: deque[float] = deque(maxlen=ROUNDS)  # seconds
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
            returning = sum(waiting.returns for waiting in self._waiting)
            if task.returns:
                slots = len(self._slots) + len(self._playing)
                self._check_places(returning, slots or self._max_queue)  # unknown before `open`
                self._waiting.insert(returning, task)
            else:
                self._check_places(len(self._waiting), self._max_queue + len(self._slots))
                self._check_wait()
                self._waiting.append(task)
            self._changed.notify()

    def _check_places(self, taken: int, places: int) -> None:
        if taken >= places:
            soonest = min((playing.left for playing in self._playing.values()), default=0)
            again = _ask_again(soonest * self._round())
            raise QueueFull(f"{taken} songs wait already; {again}")

    def _check_wait(self) -> None:
        wait = self._frames_until_a_slot() * self._round()
        if wait > self._max_wait:
            again = _ask_again(wait - self._max_wait)
            raise QueueFull(f"the song would wait {wait:.0f} s, over {self._max_wait:g}; {again}")

    def _frames_until_a_slot(self) -> int:
        """That are to be made before a song has one that comes now."""
        ends = [0] * len(self._slots) + [task.left for task in self._playing.values()]
        heapq.heapify(ends)
        for task in self._waiting:
            if ends:
                heapq.heapreplace(ends, ends[0] + task.left)
        return ends[0] if ends else 0

    def took(self, seconds: float) -> None:
        """One round of the engine, in which each song gets a frame further."""
        with self._changed:
            self._rounds.append(seconds)

    def _round(self) -> float:
        """Seconds that one takes, but for the longest: an engine's first, cold one takes as long as
        hundreds. 0 is not known yet."""
        others = len(self._rounds) - 1
        return (sum(self._rounds) - max(self._rounds)) / others if others > 0 else 0.0

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


def _ask_again(seconds: float) -> str:
    """The gateway reads the number."""
    return f"ask again in {max(1, math.ceil(seconds))} s"
