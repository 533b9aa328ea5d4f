"""The work of a step: prefill, encoding, decode and codec."""

import threading
from concurrent.futures import Future
from typing import cast

import numpy as np
import pytest
import torch

from musicgen_engine.core.audio_stream import AudioStream
from musicgen_engine.core.encoding import Encoding
from musicgen_engine.core.scheduler import Batch
from musicgen_engine.core.sequence import Sequence, SequenceStatus
from musicgen_engine.messages import GeneratingState
from musicgen_engine.model.conditioning import Conditioning
from protocol.constants import UNKNOWN
from protocol.errors import Cancelled, GenerationFailed
from protocol.request import GenerationRequest
from tests.conftest import TIMEOUT
from tests.musicgen_engine.core.sequences import (
    MELODY,
    PATTERN,
    Output,
    admitted,
    begin,
    ids,
    in_a_mix,
    new,
    resumed,
    scheduler,
    several,
)


def test_a_step_admits_and_encodes_one_sequence() -> None:
    full = scheduler(3, 3, 1, 2, 3)
    first = full.schedule()
    assert first == Batch(encode=first.encode)
    assert first.encode and first.encode.id == 1
    begin(first.encode)
    second = full.schedule()
    assert second.encode and second.encode.id == 2
    assert ids(second.decode) == [1]


def test_a_step_decodes_all_running_sequences() -> None:
    full = scheduler(3, 3, 1, 2, 3)
    running = admitted(full)
    batch = full.schedule()
    assert (batch.decode, batch.encode, batch.prefill, batch.aborted) == (running, None, None, [])
    assert all(sequence.status is SequenceStatus.RUNNING for sequence in running)


def test_a_prompt_is_prefilled_before_it_decodes() -> None:
    alone = scheduler(1, 1)
    sequence = resumed(1, frames=110, done=100)
    alone.queue.submit(sequence)
    states = [sequence.status]
    assert alone.schedule().encode is sequence
    states.append(sequence.status)
    begin(sequence)
    for length in (64, 36):
        batch = alone.schedule()
        assert (batch.prefill, batch.prefill_length, batch.decode) == (sequence, length, [])
        sequence.advance(length)
    assert alone.schedule().decode == [sequence]
    assert [*states, sequence.status] == [
        SequenceStatus.WAITING,
        SequenceStatus.PREFILL,
        SequenceStatus.RUNNING,
    ]


@pytest.mark.parametrize(
    ("decoding", "shares_cores", "length"),
    [(0, True, 64), (1, True, 2), (2, True, 2), (5, True, 5), (5, False, 64)],
)
def test_a_chunk_is_small_beside_sequences_on_a_cpu(
    decoding: int, shares_cores: bool, length: int
) -> None:
    busy = scheduler(8, 8, *range(decoding), shares_cores=shares_cores)
    admitted(busy, steps=decoding)
    busy.queue.submit(resumed(9, frames=210, done=200))
    admitted(busy, steps=1)
    assert busy.schedule().prefill_length == length


def test_a_chunk_has_as_many_rows_to_compute_as_sequences_decode() -> None:
    """The cache has both rows of 20 positions of the prefix, one of 20 more."""
    busy = scheduler(8, 8, *range(3))
    admitted(busy, steps=3)
    sequence = new(9)
    busy.queue.submit(sequence)
    assert busy.schedule().encode is sequence
    sequence.begin(PATTERN, None, cast(AudioStream, Output()))
    sequence.condition(sequence.scope, Conditioning((None, None), prefix=torch.zeros(2, 60, 8)))
    sequence.cached = [20, 40]
    lengths = []
    while (batch := busy.schedule()).prefill:
        lengths.append(batch.prefill_length)
        sequence.advance(lengths[-1])
    assert lengths == [20] + [5, 5, 5, 5] + [3] * 6 + [2]


def test_one_prompt_is_prefilled_at_a_time() -> None:
    busy = scheduler(2, 2)
    for id in (1, 2):
        busy.queue.submit(resumed(id))
    first, second = admitted(busy)
    assert busy.schedule().prefill is first
    first.advance(20)
    assert busy.schedule().prefill is second


def test_a_text_is_encoded_before_its_first_position() -> None:
    one = scheduler(1, 1, 1)
    (sequence,) = admitted(one)
    sequence.conditionings.clear()
    batch = one.schedule()
    assert (batch.encode, batch.decode) == (sequence, [])


def test_a_chunk_of_a_prefill_ends_where_the_text_changes() -> None:
    one = scheduler(1, 1)
    request = resumed(1, frames=60, done=50).request.changed(30, {"prompt": "drums"})
    sequence = Sequence(1, request)
    one.queue.submit(sequence)
    admitted(one)
    assert one.schedule().prefill_length == 30
    sequence.advance(30)
    assert one.schedule().prefill_length == 20


def test_a_sequence_is_checked_once() -> None:
    checked: list[GenerationRequest] = []
    sequence = new(1)
    for _ in range(2):
        sequence.check(checked.append)
    assert checked == [sequence.request]


def test_a_resumed_sequence_keeps_its_progress() -> None:
    one = scheduler(1, 1)
    sequence = resumed(1)
    one.queue.submit(sequence)
    admitted(one)
    assert one.queue.states() == {1: GeneratingState(20, 50)}
    assert sequence.frames_left == 30


def test_a_running_sequence_that_is_cancelled_frees_its_slot() -> None:
    full = scheduler(1, 1, 1, 2)
    (running,) = admitted(full)
    assert full.queue.cancel(1) is None
    batch = full.schedule()
    [(aborted, error)] = batch.aborted
    assert aborted is running and isinstance(error, Cancelled) and batch.decode == []
    assert running.status is SequenceStatus.FINISHED
    assert batch.encode and (batch.encode.id, batch.encode.slot) == (2, running.slot)


def test_a_sequence_whose_separation_fails_ends_alone() -> None:
    one = scheduler(1, 2)
    for sequence in (in_a_mix(1), new(2)):
        one.queue.submit(sequence)
    sequence, _ = one.queue.next_to_separate()
    one.queue.abort(sequence, GenerationFailed("why"))
    batch = one.schedule()
    [(aborted, error)] = batch.aborted
    assert (aborted, error.message) == (sequence, "why")
    assert sequence.ended and batch.encode and batch.encode.id == 2


def test_sequences_take_turns_at_the_codec() -> None:
    busy = scheduler(3, 3, 1, 2, 3)
    for _ in range(3):
        batch = busy.schedule()
        assert batch.encode
        begin(batch.encode, ready=True)
    turns = [busy.next_for_codec(limit) for limit in (1, 1, 2, 9)]
    assert [ids(sequences) for sequences in turns] == [[1], [2], [3, 1], [2, 3, 1]]


def test_without_enough_frames_the_codec_has_nothing_to_do() -> None:
    busy = scheduler(1, 1, 1)
    assert busy.next_for_codec(9) == []
    admitted(busy)
    assert busy.next_for_codec(9) == []


def encoding_of(sequence: Sequence) -> Encoding:
    return Encoding(sequence, Future(), take=begin)


def test_one_sequence_is_encoded_at_a_time() -> None:
    two = scheduler(2, 2, 1, 2)
    first = two.schedule().encode
    assert first and first.id == 1
    encoding = encoding_of(first)
    two.begin_encoding(encoding)
    assert [two.schedule().encode for _ in range(3)] == [None] * 3
    assert two.end_encoding() is None
    encoding.result.set_result(first)
    assert two.end_encoding() is encoding
    begin(first)
    second = two.schedule().encode
    assert second and second.id == 2


def test_an_engine_waits_for_what_is_encoded() -> None:
    one = scheduler(1, 1, 1)
    (sequence,) = filter(None, [one.schedule().encode])
    encoding = encoding_of(sequence)
    one.begin_encoding(encoding)
    threading.Timer(0.1, encoding.result.set_result, [None]).start()
    one.wait()
    assert one.end_encoding() is encoding


def test_a_sequence_that_has_ended_takes_no_encoding() -> None:
    one = scheduler(1, 1, 1)
    (sequence,) = filter(None, [one.schedule().encode])
    encoding = encoding_of(sequence)
    one.begin_encoding(encoding)
    one.queue.cancel(1)
    one.schedule()
    encoding.result.set_result(None)
    assert one.end_encoding() is None and one.encoding is None


def test_a_sequence_that_goes_on_lets_others_be_encoded_first() -> None:
    two = scheduler(2, 2)
    long = in_a_mix(1, frames=3000)
    two.queue.submit(long)
    two.queue.separated(long, 0, MELODY, 1.0)
    assert two.schedule().encode is long
    long.follow(np.array([[1], [UNKNOWN], [UNKNOWN]]))
    begin(long)
    two.queue.separated(long, 1, MELODY, 1.0)
    batch = two.schedule()
    assert (batch.encode, batch.decode) == (long, [long])
    two.queue.submit(new(2))
    batch = two.schedule()
    assert batch.encode and batch.encode.id == 2 and batch.decode == [long]


def test_a_sequence_with_all_its_codes_does_not_decode() -> None:
    one = scheduler(1, 1)
    one.queue.submit(resumed(1, frames=20, done=20))
    (sequence,) = admitted(one)
    assert sequence.all_decoded
    assert one.schedule() == Batch()


def test_an_idle_engine_waits_for_a_sequence() -> None:
    idle = scheduler(1, 1)
    threading.Timer(0.1, lambda: idle.queue.submit(new(1))).start()
    idle.wait()
    assert ids(admitted(idle)) == [1]


def test_an_engine_with_sequences_does_not_wait() -> None:
    busy = scheduler(1, 1, 1)
    admitted(busy)
    busy.wait()


def test_an_engine_that_waits_is_woken_for_its_turn() -> None:
    first, second = several(2, 2)
    first.queue.submit(resumed(1, frames=20, done=20))  # no work is left for it
    assert ids(admitted(first)) == [1]
    for id in (2, 3):
        first.queue.submit(new(id))
    woken = threading.Event()

    def wait() -> None:
        first.wait()
        woken.set()

    threading.Thread(target=wait, daemon=True).start()
    assert not woken.wait(0.1)
    assert ids(admitted(second)) == [2]
    assert woken.wait(TIMEOUT)
    assert ids(admitted(first)) == [3]


def test_a_running_sequence_is_cancelled_in_its_engine() -> None:
    first, second = several(1, 1)
    for id in (1, 2):
        first.queue.submit(new(id))
    assert ids(admitted(first) + admitted(second)) == [1, 2]
    assert first.queue.cancel(2) is None
    assert first.schedule().aborted == []
    [(aborted, _)] = second.schedule().aborted
    assert aborted.id == 2 and first.queue.counts() == {"queued": 0, "running": 1}


def test_a_song_that_waits_does_not_delay_a_paced_one() -> None:
    both = scheduler(2, 0)
    paced = Sequence(1, GenerationRequest("", frames=500, seed=0, pace="playback"))
    both.queue.submit(paced)
    admitted(both)
    paced.advance(130)  # 2.6 s; it may be 2 s ahead
    both.queue.submit(new(2))
    waiting = both.schedule().encode
    assert waiting and waiting.id == 2
    both.begin_encoding(Encoding(waiting, Future(), lambda _: None))
    thread = threading.Thread(target=both.wait, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    assert not thread.is_alive()


class Clock:
    """It stands still but for `sleep`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_songs_at_the_pace_of_playback_share_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each one begins at another moment; then they have gone on for a second."""
    clock, busy = Clock(monkeypatch), scheduler(4, 0)
    for id in range(4):
        clock.sleep(0.0033)
        request = GenerationRequest("", frames=500, seed=0, pace="playback")
        busy.queue.submit(Sequence(id, request))
        (sequence,) = admitted(busy, steps=1)
        sequence.advance(101)  # it is as far ahead as it may be
    steps, end = 0, clock.now + 1
    while clock.now < end:
        if decode := busy.schedule().decode:
            steps += 1
            for sequence in decode:
                sequence.advance(1)
        else:
            clock.sleep(min(sequence.due for sequence in busy.queue._running) - clock.now)
    assert steps <= 55
