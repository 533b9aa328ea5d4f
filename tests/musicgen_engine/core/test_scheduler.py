"""First come, first served: a fixed number of slots behind a bounded queue."""

import threading

import numpy as np
import pytest

from musicgen_engine.core.scheduler import Scheduler, Task
from protocol.errors import QueueFull
from protocol.request import Song


def task(id: int) -> Task:
    return Task(id, Song(prompt="", frames=50, seed=0))


def returning(id: int) -> Task:
    """20 of its frames were made before it broke off."""
    return Task(id, Song(prompt="", frames=50, seed=0, codes=np.zeros((4, 20), np.int32)))


def rounds(scheduler: Scheduler, seconds: float, count: int = 20) -> None:
    for _ in range(count):
        scheduler.took(seconds)


def scheduler(slots: int, max_queue: int, *ids: int) -> Scheduler:
    made = Scheduler(max_queue)
    made.open(slots)
    for id in ids:
        made.submit(task(id))
    return made


def admitted(scheduler: Scheduler) -> list[int]:
    return [task.id for task in iter(scheduler.admit, None)]


def test_songs_are_admitted_in_the_order_they_came_while_there_are_slots() -> None:
    full = scheduler(2, 3, 1, 2, 3)
    assert admitted(full) == [1, 2]
    assert full.counts() == {"queued": 1, "running": 2}


def test_songs_that_play_have_slots_of_their_own_and_hand_them_on() -> None:
    full = scheduler(2, 3, 1, 2, 3)
    first, second = full.admit(), full.admit()
    assert first and second and {first.slot, second.slot} == {0, 1}
    full.retire(first)
    third = full.admit()
    assert third and third.slot == first.slot


def test_a_full_queue_refuses_and_keeps_what_it_has() -> None:
    full = scheduler(1, 1, 1, 2)
    with pytest.raises(QueueFull):
        full.submit(task(3))
    assert admitted(full) == [1]
    with pytest.raises(QueueFull):
        full.submit(task(3))


def test_who_would_wait_too_long_is_told_when_to_come_back() -> None:
    """Two slots, songs of 50 frames, rounds of a second: the fifth would wait 100 s."""
    busy = Scheduler(max_queue=10, max_wait=70)
    busy.open(2)
    rounds(busy, 1.0)
    for id in (1, 2):
        busy.submit(task(id))
    for playing in iter(busy.admit, None):
        playing.frames_done = 10 * playing.id
    busy.submit(task(3))  # waits 30 s
    busy.submit(task(4))  # 40 s
    with pytest.raises(QueueFull, match=r"would wait 80 s, over 70; ask again in 10 s$"):
        busy.submit(task(5))
    busy.submit(returning(6))


def test_the_first_cold_round_says_nothing_of_the_wait() -> None:
    cold = Scheduler(max_queue=10, max_wait=1)
    cold.open(1)
    cold.submit(task(1))
    admitted(cold)
    cold.took(5.0)
    cold.submit(task(2))
    rounds(cold, 0.018)
    with pytest.raises(QueueFull, match="would wait 2 s, over 1; ask again in 1 s"):
        cold.submit(task(3))


def test_while_there_are_slots_nobody_waits_however_slow_it_is() -> None:
    slow = Scheduler(max_queue=10, max_wait=1)
    slow.open(2)
    rounds(slow, 100.0)
    slow.submit(task(1))
    slow.submit(task(2))
    with pytest.raises(QueueFull):
        slow.submit(task(3))


def test_a_full_queue_says_when_the_next_song_ends() -> None:
    full = scheduler(1, 1, 1)
    admitted(full)
    rounds(full, 0.5)
    full.submit(task(2))
    with pytest.raises(QueueFull, match=r"1 songs wait already; ask again in 25 s$"):
        full.submit(task(3))


def test_songs_that_return_find_a_place_in_a_full_queue_before_the_new_ones() -> None:
    full = scheduler(2, 2, 1, 2)
    assert admitted(full) == [1, 2]
    for new in (3, 4):
        full.submit(task(new))
    for id in (5, 6):
        full.submit(returning(id))
    with pytest.raises(QueueFull):
        full.submit(task(7))
    assert list(full.statuses()) == [5, 6, 3, 4, 1, 2]


def test_no_more_songs_return_than_there_are_slots() -> None:
    full = scheduler(2, 10)
    for id in (1, 2):
        full.submit(returning(id))
    with pytest.raises(QueueFull):
        full.submit(returning(3))
    full.submit(task(4))


def test_before_the_model_is_loaded_songs_return_within_the_queue() -> None:
    early = Scheduler(max_queue=1)
    early.submit(returning(1))
    with pytest.raises(QueueFull):
        early.submit(returning(2))


def test_a_song_that_returns_is_as_far_as_it_was() -> None:
    back = returning(1)
    assert back.status() == {"state": "generating", "frames": 20, "total_frames": 50}
    assert back.left == 30


def test_before_the_model_is_loaded_songs_wait() -> None:
    early = Scheduler(max_queue=1)
    early.submit(task(1))
    assert early.admit() is None
    with pytest.raises(QueueFull):
        early.submit(task(2))
    early.open(1)
    assert admitted(early) == [1]


def test_a_waiting_song_that_is_cancelled_leaves_the_queue() -> None:
    full = scheduler(1, 2, 1, 2)
    dropped = full.cancel(1)
    assert dropped and dropped.id == 1
    assert admitted(full) == [2]


def test_a_song_that_plays_is_told_to_stop() -> None:
    full = scheduler(1, 1, 1)
    playing = full.admit()
    assert playing and full.cancel(1) is None
    assert playing.cancelled.is_set()


def test_cancelling_what_has_ended_harms_nobody() -> None:
    full = scheduler(1, 1, 1, 2)
    first = full.admit()
    assert first
    full.retire(first)
    assert full.cancel(1) is None
    second = full.admit()
    assert second and not second.cancelled.is_set()


def test_positions_move_up() -> None:
    full = scheduler(1, 3, 1, 2, 3)
    playing = full.admit()
    assert playing
    playing.frames_done = 7
    assert full.statuses() == {
        1: {"state": "generating", "frames": 7, "total_frames": 50},
        2: {"state": "queued", "position": 1},
        3: {"state": "queued", "position": 2},
    }


def test_an_idle_engine_waits_for_a_song() -> None:
    idle = scheduler(1, 1)
    threading.Timer(0.1, lambda: idle.submit(task(1))).start()
    idle.wait()
    assert admitted(idle) == [1]


def test_an_engine_with_songs_does_not_wait() -> None:
    busy = scheduler(1, 1, 1)
    busy.admit()
    busy.wait()
