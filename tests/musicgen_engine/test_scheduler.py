"""First come, first served, within a bound."""

import threading

import pytest

from musicgen_engine.errors import QueueFull
from musicgen_engine.scheduler import Scheduler, Task
from musicgen_engine.song import Song


def task(id: int) -> Task:
    return Task(id, Song(prompt="", frames=50, seed=0))


def test_songs_are_served_in_the_order_they_came() -> None:
    scheduler = Scheduler(max_queue=3)
    for id in (1, 2, 3):
        scheduler.submit(task(id))
    assert [scheduler.next().id for _ in range(3)] == [1, 2, 3]


def test_a_full_queue_refuses_and_keeps_what_it_has() -> None:
    scheduler = Scheduler(max_queue=1)
    scheduler.submit(task(1))
    with pytest.raises(QueueFull):
        scheduler.submit(task(2))
    assert scheduler.next().id == 1


def test_the_running_song_takes_no_place_in_the_queue() -> None:
    scheduler = Scheduler(max_queue=1)
    scheduler.submit(task(1))
    scheduler.next()
    scheduler.submit(task(2))
    assert scheduler.counts() == {"queued": 1, "running": 1}


def test_a_waiting_song_that_is_cancelled_leaves_the_queue() -> None:
    scheduler = Scheduler(max_queue=2)
    scheduler.submit(task(1))
    scheduler.submit(task(2))
    dropped = scheduler.cancel(1)
    assert dropped and dropped.id == 1
    assert scheduler.next().id == 2


def test_the_running_song_is_told_to_stop() -> None:
    scheduler = Scheduler(max_queue=1)
    scheduler.submit(task(1))
    running = scheduler.next()
    assert scheduler.cancel(1) is None
    assert running.cancelled.is_set()


def test_cancelling_what_has_ended_harms_nobody() -> None:
    scheduler = Scheduler(max_queue=1)
    scheduler.submit(task(1))
    scheduler.next()
    scheduler.retire()
    scheduler.submit(task(2))
    assert scheduler.cancel(1) is None
    assert not scheduler.next().cancelled.is_set()


def test_positions_move_up() -> None:
    scheduler = Scheduler(max_queue=3)
    for id in (1, 2, 3):
        scheduler.submit(task(id))
    running = scheduler.next()
    running.frames_done = 7
    assert scheduler.statuses() == {
        1: {"state": "generating", "frames": 7, "total_frames": 50},
        2: {"state": "queued", "position": 1},
        3: {"state": "queued", "position": 2},
    }


def test_an_idle_engine_waits_for_a_song() -> None:
    scheduler = Scheduler(max_queue=1)
    threading.Timer(0.1, lambda: scheduler.submit(task(1))).start()
    assert scheduler.next().id == 1
