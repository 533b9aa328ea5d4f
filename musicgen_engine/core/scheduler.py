"""Decides what each step of an engine does: which sequences decode, prefill, are encoded. It
touches no tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

from musicgen_engine.core.queue import PREFILL_CHUNK, Queue
from musicgen_engine.core.sequence import Sequence, SequenceStatus
from protocol.errors import ServiceError

# Positions of a prompt that one step prefills beside sequences that decode on a CPU. There a
# position takes time from the others, and must not cost them more than two of their steps.
PREFILL_CHUNK_BESIDE = 4


@dataclass(frozen=True)
class Batch:
    """The work of one step."""

    aborted: list[tuple[Sequence, ServiceError]] = field(default_factory=list)
    encode: Sequence | None = None  # its text or its audio
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

    def wait(self) -> None:
        """Return when there is work."""
        with self.queue.changed:
            self.queue.changed.wait_for(self._has_work)

    def _has_work(self) -> bool:
        if self.queue.aborted or self.queue.next_for(self._slots):
            return True
        return any(
            one.abort
            or one.needs_encoding
            or one.can_go_on
            or one.awaits_codes
            or _codec_ready(one)
            for one in self._slots.running
        )

    def schedule(self) -> Batch:
        """The work of the next step. Encoding and prefill go one sequence at a time, so that batch
        mates do not wait long for them."""
        running = self._slots.running
        with self.queue.changed:
            aborted = [
                (sequence, sequence.abort)
                for sequence in (*running, *self.queue.aborted)
                if sequence.abort
            ]
            for sequence, _ in aborted:
                self._free(sequence)
            self.queue.admit(self._slots)
            encode, ready = None, []
            for sequence in running:
                if sequence.needs_encoding:
                    encode = encode or sequence
                elif sequence.can_go_on:
                    ready.append(sequence)
        decode = [sequence for sequence in ready if sequence.status is SequenceStatus.RUNNING]
        prefill = next((one for one in ready if one.status is SequenceStatus.PREFILL), None)
        length = prefill.prefill_length(self._prefill_chunk(len(decode))) if prefill else 0
        return Batch(aborted, encode, prefill, length, decode)

    def _prefill_chunk(self, decoding: int) -> int:
        if not decoding or not self._shares_cores:
            return PREFILL_CHUNK
        # Twice as many rows take, at worst, twice the time; few rows take less.
        return max(PREFILL_CHUNK_BESIDE, decoding)

    def next_for_codec(self, limit: int) -> list[Sequence]:
        """Sequences with enough codes for a chunk of audio; they go behind the others."""
        running = self._slots.running
        with self.queue.changed:
            ready = list(islice(filter(_codec_ready, running), limit))
            for sequence in ready:
                running.remove(sequence)
                running.append(sequence)
            return ready

    def finish(self, sequence: Sequence) -> None:
        """The sequence has ended, well or not; its slot is free."""
        with self.queue.changed:
            self._free(sequence)

    def _free(self, sequence: Sequence) -> None:
        if sequence.slot < 0:
            self.queue.drop(sequence)
        else:
            self._slots.leave(sequence)


def _codec_ready(sequence: Sequence) -> bool:
    """Whether there are enough codes for a chunk of audio."""
    return sequence.output is not None and sequence.output.ready(sequence.frames_done)
