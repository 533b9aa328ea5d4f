"""The queue of a model. Its engines, one for each device, take their sequences from it."""

from __future__ import annotations

import heapq
import math
import threading
from bisect import insort
from collections import deque
from operator import attrgetter, itemgetter

from musicgen_engine.config import MAX_GPUS, MAX_SLOTS
from musicgen_engine.core.sequence import Check, Sequence
from musicgen_engine.messages import (
    Change,
    GeneratingState,
    QueuedState,
    SeparatingState,
    SequenceState,
)
from protocol.constants import FRAME_RATE, Samples
from protocol.errors import Cancelled, QueueFull, ServiceError, SongEnded

MEASURED_STEPS = 100  # their mean is the time of a step
PREFILL_CHUNK = 64  # positions of a prompt that one step prefills, at most
MAX_SEPARATIONS = 8  # that wait: half a minute each, with a few cores


class Slots:
    """The slots of one engine, and the sequences in them."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(range(count))  # a heap
        self.running: list[Sequence] = []

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self, sequence: Sequence, count: int) -> None:
        """The lowest slots: a graph computes all slots below the highest one."""
        self.extend(sequence, count)
        self.running.append(sequence)

    def extend(self, sequence: Sequence, count: int) -> None:
        sequence.slots += [heapq.heappop(self._free) for _ in range(count)]

    def leave(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        for slot in sequence.slots:
            heapq.heappush(self._free, slot)
        sequence.finished = True


class Queue:
    """First come, first served: bounded, before the slots of all engines; no new sequence waits
    longer than `max_wait` seconds. Resumed sequences come before new ones, in the order in which
    they were accepted first. The limits of the queue are for new ones: no more can resume than had
    a slot or waited.

    `condition` guards all of it, and the slots of the engines.
    """

    def __init__(self, max_queue: int, max_wait: float = math.inf) -> None:
        self.condition = threading.Condition()
        self._max_queue = max_queue
        self._max_wait = max_wait
        self._step_seconds: deque[float] = deque(maxlen=MEASURED_STEPS)
        self._waiting: deque[Sequence] = deque()
        self._changes: list[tuple[Sequence, Change]] = []  # of sequences that have a slot
        self._engines: list[Slots] = []  # none before the model is loaded
        self._window = 0  # frames
        self._separation_seconds = 0.0  # of the last one

    def open(self, slots: int, window: int) -> Slots:
        """An engine begins, with so many slots. It has the same model as the others, which sees
        `window` frames."""
        opened = Slots(slots)
        with self.condition:
            self._engines.append(opened)
            self._window = window
            self.condition.notify_all()
        return opened

    def submit(self, sequence: Sequence) -> None:
        """Raises QueueFull."""
        with self.condition:
            if sequence.resumed:
                resumed = sum(waiting.resumed for waiting in self._waiting)
                self._check_places(resumed, self._max_queue + MAX_GPUS * MAX_SLOTS["cuda"])
            else:
                self._check_room()
                if sequence.waits_for_melody:
                    self._check_separations()
            insort(self._waiting, sequence, key=attrgetter("place"))
            self.condition.notify_all()

    def full_for(self) -> int:
        """The seconds for which new sequences are refused; 0 while there is room."""
        with self.condition:
            try:
                self._check_room()
            except QueueFull as error:
                return error.retry_after or 0
            return 0

    def _check_room(self) -> None:
        free = sum(slots.free for slots in self._engines)
        self._check_places(len(self._waiting), self._max_queue + free)
        self._check_wait()

    def _check_places(self, taken: int, places: int) -> None:
        if taken >= places:
            soonest = min(map(self._steps_left, self._running), default=0)
            raise _queue_full(f"{taken} songs wait already", soonest * self._step_time())

    def _check_separations(self) -> None:
        waiting = sum(sequence.waits_for_melody for sequence in self._waiting)
        seconds = self._separation_seconds * (waiting + 1)
        if waiting >= MAX_SEPARATIONS:
            problem = f"{waiting} melodies wait for the separator already"
            raise _queue_full(problem, self._separation_seconds)
        if seconds > self._max_wait:
            problem = f"the melody would wait {seconds:.0f} s, over {self._max_wait:g}"
            raise _queue_full(problem, seconds - self._max_wait)

    def _check_wait(self) -> None:
        wait = self._steps_until_a_slot() * self._step_time()
        if wait > self._max_wait:
            problem = f"the song would wait {wait:.0f} s, over {self._max_wait:g}"
            raise _queue_full(problem, wait - self._max_wait)

    def _steps_until_a_slot(self) -> int:
        """Steps before a sequence that comes now gets a slot."""
        ends = [0] * sum(slots.free for slots in self._engines)
        ends += [self._steps_left(sequence) for sequence in self._running for _ in sequence.slots]
        heapq.heapify(ends)
        for sequence in self._waiting:
            taken = [heapq.heappop(ends) for _ in range(min(sequence.slots_needed, len(ends)))]
            for _ in taken:
                heapq.heappush(ends, taken[-1] + self._steps_left(sequence))
        return ends[0] if ends else 0

    def _steps_left(self, sequence: Sequence) -> int:
        """A later window repeats frames, all of which the model has to see again. A song at the
        pace of playback has its slot for as long as it plays."""
        chunks = math.ceil((self._window - sequence.request.stride) / PREFILL_CHUNK)
        steps = sequence.frames_left + sequence.windows_left(self._window) * chunks
        if sequence.request.pace == "fast" or not (step_time := self._step_time()):
            return steps
        return max(steps, int(sequence.frames_left / FRAME_RATE / step_time))

    def record_step(self, seconds: float) -> None:
        """One step, in which each running sequence of an engine gets a frame, took so long."""
        with self.condition:
            self._step_seconds.append(seconds)

    def _step_time(self) -> float:
        """Seconds of a step, without the longest one: the first step of an engine takes as long as
        hundreds. 0 while it is unknown."""
        others = len(self._step_seconds) - 1
        return (sum(self._step_seconds) - max(self._step_seconds)) / others if others > 0 else 0.0

    def next_for(self, slots: Slots) -> Sequence | None:
        """The next sequence, if it is for these slots: the engine that runs the fewest takes it.
        Sequences that wait for a melody let others pass; one that needs several slots does not."""
        ready = next((one for one in self._waiting if not one.waits_for_melody), None)
        if ready is None:
            return None
        needed = self._needed(ready)
        free = (one for one in self._engines if one.free >= needed)
        fewest = min(free, key=lambda one: len(one.running), default=None)
        return ready if slots is fewest else None

    def _needed(self, sequence: Sequence) -> int:
        """The slots of a sequence. One that needs more than any engine has gets all of the largest,
        and is refused then."""
        return min(sequence.slots_needed, max(slots.count for slots in self._engines))

    def admit(self, slots: Slots) -> None:
        """Give the next sequence a slot, if it is for these."""
        if sequence := self.next_for(slots):
            self._waiting.remove(sequence)
            slots.take(sequence, self._needed(sequence))
            self.condition.notify_all()  # the next one may be for another engine

    def drop(self, sequence: Sequence) -> None:
        """It ends before it has a slot."""
        self._waiting.remove(sequence)
        sequence.finished = True

    def change(self, change: Change, check: Check) -> tuple[Sequence, int] | None:
        """Change a sequence that waits, and return it with the frame; keep the change of one that
        runs for its engine.

        Raises:
            SongEnded
            ServiceError: as Sequence.change
        """
        with self.condition:
            for sequence in self._waiting:
                if sequence.id == change.song:
                    return sequence, sequence.change(dict(change.values), check)
            for sequence in self._running:
                if sequence.id == change.song:
                    self._changes.append((sequence, change))
                    self.condition.notify_all()
                    return None
        raise SongEnded("The song has ended; make another.")

    def changes_for(self, slots: Slots) -> list[tuple[Sequence, Change]]:
        """Those of the sequences in these slots, and of any that has ended."""
        return [one for one in self._changes if one[0].finished or one[0] in slots.running]

    def take_changes(self, slots: Slots) -> list[tuple[Sequence, Change]]:
        with self.condition:
            taken = self.changes_for(slots)
            self._changes = [one for one in self._changes if one not in taken]
            return taken

    def extend(self, slots: Slots, sequence: Sequence, needed: int) -> None:
        """Give a running sequence so many slots. Raises QueueFull."""
        with self.condition:
            more = needed - len(sequence.slots)
            if more > slots.free:
                raise _queue_full("a blend needs another slot, and none is free", 1)
            slots.extend(sequence, more)

    def cancel(self, id: int) -> Sequence | None:
        """Drop a sequence that waits, and return it; mark one that runs."""
        with self.condition:
            for sequence in self._running:
                if sequence.id == id:
                    self._abort(sequence, Cancelled("the request was cancelled"))
            dropped = next((sequence for sequence in self._waiting if sequence.id == id), None)
            if dropped:
                self.drop(dropped)
            return dropped

    def abort(self, sequence: Sequence, error: ServiceError) -> None:
        """End the sequence with this error, in the next step."""
        with self.condition:
            self._abort(sequence, error)

    def _abort(self, sequence: Sequence, error: ServiceError) -> None:
        sequence.abort = error
        self.condition.notify_all()

    @property
    def aborted(self) -> list[Sequence]:
        """Those that wait and are to end."""
        return [sequence for sequence in self._waiting if sequence.abort]

    def next_to_separate(self) -> tuple[Sequence, int]:
        """Wait for a sequence whose melody is in a mix, and return it with the number of a window.
        New sequences come first; then those that run have their later windows made ahead."""
        with self.condition:
            self.condition.wait_for(self._mixed)
            return min(self._mixed(), key=itemgetter(1))

    def _mixed(self) -> list[tuple[Sequence, int]]:
        """The sequences with a melody in a mix, each with its first such window."""
        mixed = [
            (sequence, sequence.mixed(self._window))
            for sequence in (*self._running, *self._waiting)
            if not sequence.ended
        ]
        return [(sequence, numbers[0]) for sequence, numbers in mixed if numbers]

    def separated(self, sequence: Sequence, number: int, melody: Samples, seconds: float) -> None:
        """The melody of a window is out of its mix, after so many seconds."""
        with self.condition:
            sequence.melodies[number] = melody
            self._separation_seconds = seconds
            self.condition.notify_all()

    @property
    def _running(self) -> list[Sequence]:
        """Those of all engines."""
        return [sequence for slots in self._engines for sequence in slots.running]

    def counts(self) -> dict[str, int]:
        with self.condition:
            return {"queued": len(self._waiting), "running": len(self._running)}

    def states(self) -> dict[int, SequenceState]:
        """The state of every sequence, by its id."""
        with self.condition:
            waiting: dict[int, SequenceState] = {}
            for state in (QueuedState, SeparatingState):
                separating = state is SeparatingState
                group = [one for one in self._waiting if one.waits_for_melody == separating]
                waiting |= {one.id: state(place) for place, one in enumerate(group, start=1)}
            running = {
                sequence.id: GeneratingState(sequence.frames_done, sequence.request.frames)
                for sequence in self._running
            }
            return waiting | running


def _queue_full(problem: str, seconds: float) -> QueueFull:
    retry_after = max(1, math.ceil(seconds))
    return QueueFull(f"{problem}; ask again in {retry_after} s", retry_after=retry_after)
