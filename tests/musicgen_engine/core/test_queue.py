"""First come, first served: fixed numbers of slots behind one bounded queue."""

from dataclasses import replace

import numpy as np
import pytest

from musicgen_engine.config import MAX_GPUS, MAX_SLOTS
from musicgen_engine.core.queue import MAX_SEPARATIONS, Queue
from musicgen_engine.core.scheduler import Batch, Scheduler
from musicgen_engine.core.sequence import Sequence
from musicgen_engine.messages import GeneratingState, QueuedState, SeparatingState
from protocol.constants import UNKNOWN
from protocol.errors import QueueFull
from protocol.prompt import WeightedText
from protocol.request import GenerationRequest
from tests.musicgen_engine.core.sequences import (
    MELODY,
    PATTERN,
    admitted,
    engine_of,
    ids,
    in_a_mix,
    new,
    record,
    resumed,
    scheduler,
    several,
)


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


@pytest.mark.parametrize("windows", [1, 2, 5])
def test_a_melody_of_other_windows_breaks_no_queue(windows: int) -> None:
    """Before the model is loaded, nothing knows how many a song has."""
    queue = Queue(max_queue=3)
    partly_known = np.full((windows, 235), UNKNOWN, np.int32)
    partly_known[0, 0] = 0
    mix, sequence = in_a_mix(1).request, new(2)
    wrong = Sequence(1, replace(mix, frames=3000, chroma=partly_known))
    queue.submit(wrong)
    queue.submit(sequence)
    loaded = engine_of(queue, 2)
    assert queue.next_to_separate() == (wrong, 0)
    assert queue.states() == {1: SeparatingState(1), 2: QueuedState(1)}
    assert ids(admitted(loaded)) == [2]


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


def test_a_queue_tells_for_how_long_it_is_full() -> None:
    places, waits = scheduler(1, 1, 1), engine_of(Queue(max_queue=9, max_wait=10), 1)
    assert (places.queue.full_for(), waits.queue.full_for()) == (0, 0)
    waits.queue.submit(new(1))
    for full in (places, waits):
        admitted(full)
        record(full, 0.5)
        assert full.queue.full_for() == (0 if full is places else 15)
    places.queue.submit(new(2))
    assert places.queue.full_for() == 25


def test_a_blend_waits_for_an_engine_with_enough_slots() -> None:
    """It needs two. The engine with one runs fewer songs, but has no room for it."""
    large, small = several(5, 1)
    large.queue.submit(new(0))
    assert ids(admitted(large)) == [0]
    texts = tuple(WeightedText(text, 1 / 3) for text in "abc")
    large.queue.submit(Sequence(1, new(1).request.changed(0, {"prompt": texts})))
    assert ids(admitted(small)) == []
    (blend,) = admitted(large)
    assert len(blend.slots) == 2
