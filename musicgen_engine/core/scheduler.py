"""Decides what each step of an engine does: which sequences decode, prefill, are encoded. It
touches no tensors."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter

from musicgen_engine.core.encoding import Encoding
from musicgen_engine.core.queue import PREFILL_CHUNK, Queue
from musicgen_engine.core.sequence import Sequence, SequenceStatus
from musicgen_engine.messages import Change
from protocol.errors import ServiceError

# Rows that one step prefills beside sequences that decode on a CPU, at least: a step of one song
# waits for memory, and twice as many more rows cost it no more than another step.
PREFILL_ROWS_BESIDE = 4


@dataclass(frozen=True)
class Batch:
    """The work of one step."""

    aborted: list[tuple[Sequence, ServiceError]] = field(default_factory=list)
    encode: Sequence | None = None  # whose text or audio is to be encoded, beside this step
    prefill: Sequence | None = None
    prefill_length: int = 0
    decode: list[Sequence] = field(default_factory=list)


class Scheduler:
    """The sequences of one engine, from the queue of all."""

    def __init__(self, queue: Queue, slots: int, window: int, shares_cores: bool = True) -> None:
        """`shares_cores`: prefill takes time from decode."""
        self.queue = queue
        self._slots = queue.open(slots, window)
        self._shares_cores = shares_cores
        self.encoding: Encoding | None = None  # until its sequence takes it

    def wait(self) -> None:
        """Return when there is work."""
        with self.queue.condition:
            while True:
                now = time.monotonic()  # before the look for work: no song may become due between
                if self._has_work():
                    return
                self.queue.condition.wait(self._idle_time(now))

    def _idle_time(self, now: float) -> float | None:
        """Seconds until a song at the pace of playback goes on; None without one. One that is due
        already waits for something else."""
        return min((one.due - now for one in self._slots.running if one.due > now), default=None)

    def _has_work(self) -> bool:
        queue, slots = self.queue, self._slots
        if any(  # first: it is true at once where songs play
            one.abort or one.ready or one.awaits_codes or _codec_ready(one) for one in slots.running
        ):
            return True
        if queue.aborted or queue.changes_for(slots) or queue.next_for(slots):
            return True
        return bool(self._next_to_encode() or (self.encoding and self.encoding.result.done()))

    def begin_encoding(self, encoding: Encoding) -> None:
        """No other one begins before this one is done."""
        self.encoding = encoding
        encoding.result.add_done_callback(self._wake)

    def _wake(self, _: object) -> None:
        with self.queue.condition:
            self.queue.condition.notify_all()

    def end_encoding(self) -> Encoding | None:
        """The encoding that is done, unless its sequence has ended meanwhile."""
        encoding = self.encoding
        if encoding is None or not encoding.result.done():
            return None
        self.encoding = None
        return None if encoding.sequence.finished else encoding

    def take_changes(self) -> list[tuple[Sequence, Change]]:
        return self.queue.take_changes(self._slots)

    def extend(self, sequence: Sequence, slots: int) -> None:
        """Let the sequence have as many slots. Raises QueueFull."""
        self.queue.extend(self._slots, sequence, slots)

    def schedule(self) -> Batch:
        """The work of the next step. Encoding and prefill go one sequence at a time, so that batch
        mates do not wait long for them."""
        running = self._slots.running
        with self.queue.condition:
            aborted = [
                (sequence, sequence.abort)
                for sequence in (*running, *self.queue.aborted)
                if sequence.abort
            ]
            for sequence, _ in aborted:
                self._free(sequence)
            self.queue.admit(self._slots)
            encode = self._next_to_encode()
            ready = [sequence for sequence in running if sequence.ready]
        decode = [sequence for sequence in ready if sequence.status is SequenceStatus.RUNNING]
        prefill = next((one for one in ready if one.status is SequenceStatus.PREFILL), None)
        length = prefill.prefill_length(self._most_positions(prefill, decode)) if prefill else 0
        return Batch(aborted, encode, prefill, length, decode)

    def _next_to_encode(self) -> Sequence | None:
        """A sequence that goes on meanwhile, such as one with the melody of a later window, lets
        others pass."""
        if self.encoding:
            return None
        needing = (sequence for sequence in self._slots.running if sequence.needs_encoding)
        return min(needing, key=attrgetter("ready"), default=None)

    def _most_positions(self, prefill: Sequence, decode: list[Sequence]) -> int:
        """Of a chunk. Twice as many rows take, at worst, twice the time, so sequences that decode
        on a CPU wait at most one more of their steps. Rows that the cache has are computed at the
        chunk's last position alone."""
        if not (decode and prefill.new_rows and self._shares_cores):
            return PREFILL_CHUNK
        rows = max(PREFILL_ROWS_BESIDE, sum(sequence.rows for sequence in decode))
        rows -= prefill.rows - prefill.new_rows
        return min(PREFILL_CHUNK, max(1, rows // prefill.new_rows))

    def next_for_codec(self, limit: int) -> list[Sequence]:
        """Sequences with enough codes for a chunk of audio; they go behind the others."""
        running = self._slots.running
        with self.queue.condition:
            ready = list(islice(filter(_codec_ready, running), limit))
            for sequence in ready:
                running.remove(sequence)
                running.append(sequence)
            return ready

    def finish(self, sequence: Sequence) -> None:
        """The sequence has ended, well or not; its slot is free."""
        with self.queue.condition:
            self._free(sequence)

    def _free(self, sequence: Sequence) -> None:
        if not sequence.slots:
            self.queue.drop(sequence)
        else:
            self._slots.leave(sequence)


def _codec_ready(sequence: Sequence) -> bool:
    """Whether there are enough codes for a chunk of audio."""
    return sequence.output is not None and sequence.output.ready(sequence.frames_done)
