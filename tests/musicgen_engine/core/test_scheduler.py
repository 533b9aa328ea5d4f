"""First come, first served: fixed numbers of slots behind one bounded queue."""

import math
import threading
from concurrent.futures import Future
from typing import Any, cast

import numpy as np
import pytest
import torch

from musicgen_engine.config import MAX_GPUS, MAX_SLOTS
from musicgen_engine.core.audio_stream import AudioStream
from musicgen_engine.core.encoding import Encoding
from musicgen_engine.core.queue import MAX_SEPARATIONS, Queue
from musicgen_engine.core.scheduler import Batch, Scheduler
from musicgen_engine.core.sequence import Sequence, SequenceStatus
from musicgen_engine.messages import GeneratingState, QueuedState, SeparatingState
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.delay_pattern import DelayPattern
from protocol.constants import UNKNOWN
from protocol.errors import Cancelled, GenerationFailed, QueueFull
from protocol.request import GenerationRequest
from tests.conftest import TIMEOUT

PATTERN = DelayPattern((0, 1, 2, 3), special_token=2048, window=1500)


def new(id: int) -> Sequence:
    return Sequence(id, GenerationRequest(prompt="", frames=50, seed=0))


def resumed(id: int, frames: int = 50, done: int = 20, arrival_time: int = 1) -> Sequence:
    """A sequence that lost its engine after `done` frames."""
    codes = np.zeros((4, done), np.int32)
    request = GenerationRequest("", frames, seed=0, codes=codes, arrival_time=arrival_time)
    return Sequence(id, request)


class Output:
    """An audio stream that never has enough frames, or always."""

    def __init__(self, ready: bool = False) -> None:
        self._ready = ready

    def ready(self, frames_done: int) -> bool:
        return self._ready


def begin(sequence: Sequence, ready: bool = False) -> None:
    """Do as the engine when it encodes the sequence."""
    output = cast(AudioStream, Output(ready))
    sequence.begin(PATTERN, sequence.request.codes, output)
    while section := sequence.section_to_encode:
        sequence.condition(sequence.scope_of(section), Conditioning((None, None)))


def record(scheduler: Scheduler, seconds: float, count: int = 20) -> None:
    for _ in range(count):
        scheduler.queue.record_step(seconds)


def engine_of(queue: Queue, slots: int, **settings: Any) -> Scheduler:
    return Scheduler(queue, slots, PATTERN.window, **settings)


def scheduler(slots: int, max_queue: int, *ids: int, **settings: Any) -> Scheduler:
    opened = engine_of(Queue(max_queue), slots, **settings)
    for id in ids:
        opened.queue.submit(new(id))
    return opened


def admitted(scheduler: Scheduler, steps: int = 5) -> list[Sequence]:
    """The sequences that get a slot in the next steps, in order."""
    found: list[Sequence] = []
    for _ in range(steps):
        batch = scheduler.schedule()
        if batch.encode and batch.encode not in found:
            found.append(batch.encode)
            begin(batch.encode)
    return found


def ids(sequences: list[Sequence]) -> list[int]:
    return [sequence.id for sequence in sequences]


def test_sequences_get_slots_in_the_order_they_came() -> None:
    full = scheduler(2, 3, 1, 2, 3)
    assert ids(admitted(full)) == [1, 2]
    assert full.queue.counts() == {"queued": 1, "running": 2}


def test_each_running_sequence_has_a_slot_and_hands_it_on() -> None:
    full = scheduler(2, 3, 1, 2, 3)
    first, second = admitted(full)
    assert {first.slot, second.slot} == {0, 1}
    full.finish(first)
    (third,) = admitted(full)
    assert third.slot == first.slot


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
    sequence.known = [20, 40]
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


def test_a_full_queue_refuses_and_keeps_its_sequences() -> None:
    full = scheduler(1, 1, 1, 2)
    with pytest.raises(QueueFull):
        full.queue.submit(new(3))
    assert ids(admitted(full)) == [1]
    with pytest.raises(QueueFull):
        full.queue.submit(new(3))


def test_a_wait_that_is_too_long_is_refused_with_a_time() -> None:
    """Two slots, songs of 50 frames, steps of a second: the fifth would wait 80 s."""
    busy = engine_of(Queue(max_queue=10, max_wait=70), 2)
    record(busy, 1.0)
    for id in (1, 2):
        busy.queue.submit(new(id))
    for running in admitted(busy):
        running.frames_done = 10 * running.id
    busy.queue.submit(new(3))  # waits 30 s
    busy.queue.submit(new(4))  # 40 s
    with pytest.raises(QueueFull, match=r"would wait 80 s, over 70; ask again in 10 s$") as caught:
        busy.queue.submit(new(5))
    assert caught.value.retry_after == 10
    busy.queue.submit(resumed(6))


def test_a_sequence_gets_the_lowest_free_slot() -> None:
    """A graph computes all slots up to the highest one."""
    full = scheduler(4, 5, *range(5))
    *running, _ = admitted(full)[:4]
    for sequence in running:
        full.finish(sequence)
    assert admitted(full, steps=2)[-1].slot == 0


@pytest.mark.parametrize(("slots", "stride"), [(1, 1.0), (1, 18.0), (4, 1.0)])
def test_a_predicted_wait_counts_repeated_windows(slots: int, stride: float) -> None:
    """Songs of a minute; the prediction is right to a tenth."""
    request = GenerationRequest(prompt="", frames=3_000, seed=0, extend_stride=stride)
    full = engine_of(Queue(max_queue=10, max_wait=1), slots)
    for id in range(slots):
        full.queue.submit(Sequence(id, request))
    admitted(full)
    record(full, 1.0)
    with pytest.raises(QueueFull) as caught:
        full.queue.submit(new(slots))
    steps = 0
    while len(full.queue.states()) == slots:
        run(full)
        steps += 1
    assert caught.value.retry_after == pytest.approx(steps, rel=0.1)


def run(scheduler: Scheduler) -> None:
    """Do as the engine in a step, without a model."""
    batch = scheduler.schedule()
    if batch.prefill:
        batch.prefill.advance(batch.prefill_length)
    for sequence in batch.decode:
        sequence.advance(1)
        sequence.append(sequence.position - 1, np.zeros((1, PATTERN.codebooks), np.int32))
        if sequence.all_decoded:
            scheduler.finish(sequence)


def test_the_first_slow_step_does_not_count_for_the_wait() -> None:
    cold = engine_of(Queue(max_queue=10, max_wait=1), 1)
    cold.queue.submit(new(1))
    admitted(cold)
    cold.queue.record_step(5.0)
    cold.queue.submit(new(2))
    record(cold, 0.018)
    with pytest.raises(QueueFull, match="would wait 2 s, over 1; ask again in 1 s"):
        cold.queue.submit(new(3))


def test_with_a_free_slot_no_wait_is_too_long() -> None:
    slow = engine_of(Queue(max_queue=10, max_wait=1), 2)
    record(slow, 100.0)
    slow.queue.submit(new(1))
    slow.queue.submit(new(2))
    with pytest.raises(QueueFull):
        slow.queue.submit(new(3))


def test_a_full_queue_tells_when_the_next_sequence_ends() -> None:
    full = scheduler(1, 1, 1)
    admitted(full)
    record(full, 0.5)
    full.queue.submit(new(2))
    with pytest.raises(QueueFull, match=r"1 songs wait already; ask again in 25 s$") as caught:
        full.queue.submit(new(3))
    assert caught.value.retry_after == 25


def test_resumed_sequences_come_first_as_they_were_accepted() -> None:
    full = scheduler(2, 2, 1, 2)
    assert ids(admitted(full)) == [1, 2]
    for id in (3, 4):
        full.queue.submit(new(id))
    for id, arrival_time in ((5, 30), (6, 10), (7, 20), (8, 20)):
        full.queue.submit(resumed(id, arrival_time=arrival_time))
    with pytest.raises(QueueFull):
        full.queue.submit(new(9))
    assert list(full.queue.states()) == [6, 7, 8, 5, 3, 4, 1, 2]


def test_codes_alone_give_no_place() -> None:
    full = scheduler(1, 2, 1)
    admitted(full)
    full.queue.submit(new(2))
    codes = np.zeros((4, 20), np.int32)
    full.queue.submit(Sequence(3, GenerationRequest("", 50, seed=0, codes=codes)))
    assert list(full.queue.states()) == [2, 3, 1]


@pytest.mark.parametrize("loaded", [False, True])
def test_a_full_queue_takes_all_that_were_accepted_before(loaded: bool) -> None:
    queue = scheduler(2, 3, *range(5)).queue if loaded else Queue(max_queue=3)
    most = 3 + MAX_GPUS * MAX_SLOTS["cuda"]  # those that waited, and those that had a slot
    for id in range(most):
        queue.submit(resumed(10 + id))
    with pytest.raises(QueueFull):
        queue.submit(resumed(9))


def test_a_resumed_sequence_keeps_its_progress() -> None:
    one = scheduler(1, 1)
    sequence = resumed(1)
    one.queue.submit(sequence)
    admitted(one)
    assert one.queue.states() == {1: GeneratingState(20, 50)}
    assert sequence.frames_left == 30


def test_before_the_model_is_loaded_sequences_wait() -> None:
    early = Queue(max_queue=1)
    early.submit(new(1))
    with pytest.raises(QueueFull):
        early.submit(new(2))
    assert ids(admitted(engine_of(early, 1))) == [1]


def test_a_waiting_sequence_that_is_cancelled_is_dropped() -> None:
    full = scheduler(1, 2, 1, 2)
    dropped = full.queue.cancel(1)
    assert dropped and dropped.id == 1
    assert ids(admitted(full)) == [2]


def test_a_running_sequence_that_is_cancelled_frees_its_slot() -> None:
    full = scheduler(1, 1, 1, 2)
    (running,) = admitted(full)
    assert full.queue.cancel(1) is None
    batch = full.schedule()
    [(aborted, error)] = batch.aborted
    assert aborted is running and isinstance(error, Cancelled) and batch.decode == []
    assert running.status is SequenceStatus.FINISHED
    assert batch.encode and (batch.encode.id, batch.encode.slot) == (2, running.slot)


def test_cancelling_a_finished_sequence_changes_nothing() -> None:
    full = scheduler(1, 1, 1, 2)
    (first,) = admitted(full)
    full.finish(first)
    assert full.queue.cancel(1) is None
    (second,) = admitted(full)
    assert not second.ended


def test_positions_move_up() -> None:
    full = scheduler(1, 3, 1, 2, 3)
    (running,) = admitted(full)
    running.frames_done = 7
    assert full.queue.states() == {1: GeneratingState(7, 50), 2: QueuedState(1), 3: QueuedState(2)}
    full.finish(running)
    full.schedule()
    assert full.queue.states() == {2: GeneratingState(0, 50), 3: QueuedState(1)}


def in_a_mix(id: int, frames: int = 50) -> Sequence:
    """A sequence whose melody has to be taken out of a mix."""
    mix = np.ones((1, 32_000), np.float32)
    return Sequence(id, GenerationRequest("", frames, seed=0, melody=mix))


MELODY = np.zeros((1, 32_000), np.float32)


def test_a_melody_in_a_mix_waits_without_a_slot() -> None:
    one = scheduler(1, 3)
    for sequence in (in_a_mix(1), new(2), in_a_mix(3)):
        one.queue.submit(sequence)
    assert one.queue.states() == {1: SeparatingState(1), 2: QueuedState(1), 3: SeparatingState(2)}
    batch = one.schedule()
    assert batch.encode and batch.encode.id == 2
    one.finish(batch.encode)
    assert one.schedule() == Batch()
    sequence, number = one.queue.next_to_separate()
    one.queue.separated(sequence, number, MELODY, 1.0)
    assert one.queue.states() == {1: QueuedState(1), 3: SeparatingState(1)}
    batch = one.schedule()
    assert batch.encode is sequence and sequence.id == 1


def test_new_songs_come_before_later_windows_at_the_separator() -> None:
    two = scheduler(2, 2)
    long, short = in_a_mix(1, frames=3000), in_a_mix(2)
    two.queue.submit(long)
    assert two.queue.next_to_separate() == (long, 0)
    two.queue.separated(long, 0, MELODY, 1.0)
    assert two.queue.next_to_separate() == (long, 1)
    two.queue.submit(short)
    assert two.queue.next_to_separate() == (short, 0)
    two.queue.separated(short, 0, MELODY, 1.0)
    assert two.queue.next_to_separate() == (long, 1)


def test_as_many_melodies_wait_for_the_separator_as_there_may() -> None:
    full = scheduler(1, 20)
    for id in range(MAX_SEPARATIONS):
        full.queue.submit(in_a_mix(id))
    full.queue.separated(*full.queue.next_to_separate(), MELODY, 30.0)
    full.queue.submit(in_a_mix(98))
    with pytest.raises(QueueFull, match="8 melodies wait") as error:
        full.queue.submit(in_a_mix(99))
    assert error.value.retry_after == 30
    full.queue.submit(new(100))


def test_a_melody_that_would_wait_too_long_is_refused() -> None:
    impatient = engine_of(Queue(max_queue=9, max_wait=70), 1)
    impatient.queue.submit(in_a_mix(1))
    impatient.queue.separated(*impatient.queue.next_to_separate(), MELODY, 30.0)
    for id in (2, 3):
        impatient.queue.submit(in_a_mix(id))
    with pytest.raises(QueueFull, match="the melody would wait 90 s, over 70"):
        impatient.queue.submit(in_a_mix(4))


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


def several(*slots: int, max_queue: int = 9, max_wait: float = math.inf) -> list[Scheduler]:
    """Engines of one queue."""
    queue = Queue(max_queue, max_wait)
    return [engine_of(queue, count) for count in slots]


def test_the_engine_with_the_fewest_sequences_takes_the_next() -> None:
    first, second = several(2, 2)
    for id in range(3):
        first.queue.submit(new(id))
    assert ids(admitted(second)) == []  # it is the first one's turn
    assert ids(admitted(first)) == [0]
    assert ids(admitted(second)) == [1]
    assert ids(admitted(first)) == [2]


def test_the_order_of_the_queue_holds_for_all_engines() -> None:
    engines = several(1, 2, 3)
    for id in range(8):
        engines[0].queue.submit(new(id))
    taken = [sequence for _ in range(3) for one in engines for sequence in admitted(one, steps=1)]
    assert ids(taken) == list(range(6))
    assert engines[0].queue.counts() == {"queued": 2, "running": 6}
    engines[1].finish(taken[1])
    assert [ids(admitted(one)) for one in engines] == [[], [6], []]


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


def test_a_predicted_wait_counts_the_slots_of_all_engines() -> None:
    """Songs of 50 frames, steps of a second."""
    engines = several(1, 1, max_wait=40)
    record(engines[0], 1.0)
    queue = engines[0].queue
    for id in (1, 2):
        queue.submit(new(id))
    for engine, done in zip(engines, (30, 20), strict=True):
        admitted(engine)[0].frames_done = done
    queue.submit(new(3))  # waits 20 s
    queue.submit(new(4))  # 30 s
    with pytest.raises(QueueFull, match="would wait 70 s, over 40; ask again in 30 s"):
        queue.submit(new(5))


def test_a_full_queue_has_places_for_the_free_slots_of_all() -> None:
    queue = several(1, 2, max_queue=1)[0].queue
    for id in range(4):
        queue.submit(new(id))
    with pytest.raises(QueueFull):
        queue.submit(new(4))


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
