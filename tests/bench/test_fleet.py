"""The simulation of many servers."""

import random
from statistics import mean

import pytest

from bench.fleet import CHOICES, LONGEST, SHORTEST, Server, mean_seconds, seconds, simulate

SONGS = 20_000


def waits(choice: str, servers: int = 20, slots: int = 8, load: float = 0.9) -> list[float]:
    pool = [Server(slots) for _ in range(servers)]
    result = simulate(CHOICES[choice], pool, load, SONGS, seed=1)
    assert all(not (server.running or server.waiting or any(server.own)) for server in pool)
    return result


def test_songs_have_the_lengths_that_the_rate_supposes() -> None:
    rng = random.Random(0)
    lengths = [seconds(rng) for _ in range(100_000)]
    assert min(lengths) >= SHORTEST and max(lengths) <= LONGEST
    assert mean(lengths) == pytest.approx(mean_seconds(), rel=0.01)


def test_each_choice_is_better_than_the_one_that_knows_less() -> None:
    """`in turn` and `own of two` know different things."""
    order = ["random", "own of two", "asked: two", "asked: three", "asked: all"]
    means = [mean(waits(choice)) for choice in order]
    assert means == sorted(means, reverse=True)
    assert mean(waits("in turn")) < means[0]


def test_a_song_waits_for_its_own_server_alone() -> None:
    """With one server all choices are the same, and its waits are those of a queue: with as many
    slots as songs there are none."""
    alone = [waits(choice, servers=1) for choice in CHOICES]
    assert all(one == alone[0] for one in alone)
    assert max(alone[0]) > 0
    assert not any(waits("random", servers=1, slots=SONGS))


def test_the_same_seed_gives_the_same_waits() -> None:
    assert waits("asked: three") == waits("asked: three")
