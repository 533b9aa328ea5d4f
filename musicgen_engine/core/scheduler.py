"""Decides what each step of the engine does: which sequences decode, prefill, are encoded. It
touches no tensors."""

from __future__ import annotations

import heapq
import math
import threading
from bisect import insort
from collections import deque
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter

from musicgen_engine.config import MAX_SLOTS
from musicgen_engine.core.sequence import Sequence, SequenceStatus
from musicgen_engine.messages import GeneratingState, QueuedState, SeparatingState, SequenceState
from protocol.constants import Samples
from protocol.errors import Cancelled, QueueFull, ServiceError

MEASURED_STEPS = 100  # their mean is the time of a step
# Positions of a prompt that one step prefills: alone, or beside sequences that decode on a CPU. On
# a CPU a position takes time from the others, and must not cost them more than two of their steps.
PREFILL_CHUNK = 64
PREFILL_CHUNK_BESIDE = 8
MAX_SEPARATIONS = 8  # that wait: half a minute each, with a few cores


@dataclass(frozen=True)
class Batch:
    """The work of one step."""

    aborted: list[tuple[Sequence, ServiceError]] = field(default_factory=list)
    encode: Sequence | None = None  # its text or its audio
    prefill: Sequence | None = None
    prefill_length: int = 0
    decode: list[Sequence] = field(default_factory=list)


class Scheduler:
    """First come, first served: a fixed number of slots behind a bounded queue, in which no new
    sequence waits longer than `max_wait` seconds. Resumed sequences come before new ones, in the
    order in which they were accepted first. The limits of the queue are for new ones: no more can
    resume than had a slot or waited."""

    def __init__(self, max_queue: int, max_wait: float = math.inf) -> None:
        self._max_queue = max_queue
        self._max_wait = max_wait
        self._step_seconds: deque[float] = deque(maxlen=MEASURED_STEPS)
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._separation_seconds = 0.0  # of the last one
        self._slots: list[int] = []  # free ones, a heap; none before the model is loaded
        self._window = 0  # frames
        self._shares_cores = True
        self._changed = threading.Condition()

    def open(self, slots: int, window: int, shares_cores: bool = True) -> None:
        """The model is loaded, has `slots` and sees `window` frames. `shares_cores`: prefill takes
        time from decode."""
        with self._changed:
            self._slots = list(range(slots))
            self._window = window
            self._shares_cores = shares_cores
            self._changed.notify_all()

    def submit(self, sequence: Sequence) -> None:
        """Raises QueueFull."""
        with self._changed:
            if sequence.resumed:
                resumed = sum(waiting.resumed for waiting in self._waiting)
                self._check_places(resumed, self._max_queue + max(MAX_SLOTS.values()))
            else:
                self._check_places(len(self._waiting), self._max_queue + len(self._slots))
                if sequence.waits_for_melody:
                    self._check_separations()
                self._check_wait()
            insort(self._waiting, sequence, key=attrgetter("place"))
            self._changed.notify_all()

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
        ends = [0] * len(self._slots) + [self._steps_left(one) for one in self._running]
        heapq.heapify(ends)
        for sequence in self._waiting:
            if ends:
                heapq.heapreplace(ends, ends[0] + self._steps_left(sequence))
        return ends[0] if ends else 0

    def _steps_left(self, sequence: Sequence) -> int:
        """A later window repeats frames, all of which the model has to see again."""
        chunks = math.ceil((self._window - sequence.request.stride) / PREFILL_CHUNK)
        return sequence.frames_left + sequence.windows_left(self._window) * chunks

    def record_step(self, seconds: float) -> None:
        """One step, in which each running sequence gets a frame, took so long."""
        with self._changed:
            self._step_seconds.append(seconds)

    def _step_time(self) -> float:
        """Seconds of a step, without the longest one: the first step of an engine takes as long as
        hundreds. 0 while it is unknown."""
        others = len(self._step_seconds) - 1
        return (sum(self._step_seconds) - max(self._step_seconds)) / others if others > 0 else 0.0

    def cancel(self, id: int) -> Sequence | None:
        """Drop a sequence that waits, and return it; mark one that runs."""
        with self._changed:
            for sequence in self._running:
                if sequence.id == id:
                    self._abort(sequence, Cancelled("the request was cancelled"))
            dropped = next((sequence for sequence in self._waiting if sequence.id == id), None)
            if dropped:
                self._free(dropped)
            return dropped

    def abort(self, sequence: Sequence, error: ServiceError) -> None:
        """End the sequence with this error, in the next step."""
        with self._changed:
            self._abort(sequence, error)

    def _abort(self, sequence: Sequence, error: ServiceError) -> None:
        sequence.abort = error
        self._changed.notify_all()

    def wait(self) -> None:
        """Return when there is work."""
        with self._changed:
            self._changed.wait_for(self._has_work)

    def _has_work(self) -> bool:
        if any(sequence.abort for sequence in (*self._running, *self._waiting)):
            return True
        if self._slots and self._next_to_admit():
            return True
        return any(
            one.needs_encoding or one.can_go_on or one.awaits_codes or _codec_ready(one)
            for one in self._running
        )

    def next_to_separate(self) -> tuple[Sequence, int]:
        """Wait for a sequence whose melody is in a mix, and return it with the number of a window.
        New sequences come first; then those that run have their later windows made ahead."""
        with self._changed:
            self._changed.wait_for(self._mixed)
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
        with self._changed:
            sequence.melodies[number] = melody
            self._separation_seconds = seconds
            self._changed.notify_all()

    def schedule(self) -> Batch:
        """The work of the next step. Encoding and prefill go one sequence at a time, so that batch
        mates do not wait long for them."""
        with self._changed:
            aborted = [
                (sequence, sequence.abort)
                for sequence in (*self._running, *self._waiting)
                if sequence.abort
            ]
            for sequence, _ in aborted:
                self._free(sequence)
            self._admit()
            encode, ready = None, []
            for sequence in self._running:
                if sequence.needs_encoding:
                    encode = encode or sequence
                elif sequence.can_go_on:
                    ready.append(sequence)
        decode = [sequence for sequence in ready if sequence.status is SequenceStatus.RUNNING]
        prefill = next((one for one in ready if one.status is SequenceStatus.PREFILL), None)
        length = prefill.prefill_length(self._prefill_chunk(len(decode))) if prefill else 0
        return Batch(aborted, encode, prefill, length, decode)

    def _admit(self) -> None:
        """Give the lowest free slot to the first sequence in the queue that does not wait for a
        melody: a graph computes all slots below the highest one."""
        if self._slots and (sequence := self._next_to_admit()):
            self._waiting.remove(sequence)
            sequence.slot = heapq.heappop(self._slots)
            self._running.append(sequence)

    def _next_to_admit(self) -> Sequence | None:
        return next((one for one in self._waiting if not one.waits_for_melody), None)

    def _prefill_chunk(self, decoding: int) -> int:
        if not decoding or not self._shares_cores:
            return PREFILL_CHUNK
        # Twice as many rows take, at worst, twice the time; few rows take less.
        return min(PREFILL_CHUNK, max(PREFILL_CHUNK_BESIDE, 2 * decoding))

    def next_for_codec(self) -> Sequence | None:
        """A sequence with enough codes for a chunk of audio; it goes behind the others."""
        with self._changed:
            for sequence in self._running:
                if _codec_ready(sequence):
                    self._running.remove(sequence)
                    self._running.append(sequence)
                    return sequence
            return None

    def finish(self, sequence: Sequence) -> None:
        """The sequence has ended, well or not; its slot is free."""
        with self._changed:
            self._free(sequence)

    def _free(self, sequence: Sequence) -> None:
        if sequence.slot < 0:
            self._waiting.remove(sequence)
        else:
            self._running.remove(sequence)
            heapq.heappush(self._slots, sequence.slot)
        sequence.finished = True

    def counts(self) -> dict[str, int]:
        with self._changed:
            return {"queued": len(self._waiting), "running": len(self._running)}

    def states(self) -> dict[int, SequenceState]:
        """The state of every sequence, by its id."""
        with self._changed:
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


def _codec_ready(sequence: Sequence) -> bool:
    """Whether there are enough codes for a chunk of audio."""
    return sequence.output is not None and sequence.output.ready(sequence.frames_done)


def _queue_full(problem: str, seconds: float) -> QueueFull:
    retry_after = max(1, math.ceil(seconds))
    return QueueFull(f"{problem}; ask again in {retry_after} s", retry_after=retry_after)
