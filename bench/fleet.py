"""Simulates many servers: `python -m bench.fleet [--servers 100 --slots 32 --songs 200000]`.

How long does a song wait for a slot, by the way in which its server is chosen? Songs come at random
(Poisson) to 20 gateways. Each holds a slot for 30 to 300 s, mostly for a short time (bounded
Pareto, mean 74 s). A server takes its songs in the order in which they came. Its status is exact
and costs no time; nothing fails, and no song is refused.

    random          any server
    in turn         round robin in each gateway
    own of two      of two at random, the one with fewer songs of the same gateway, as a balancer
                    beside each gateway does that knows no other's songs
    asked: two      of two at random, the one with fewer songs for its slots
    asked: three    of three: the gateway's own choice (gateway/pool.py)
    asked: all      the emptiest

A second table is for pools of other sizes, with the gateway's choice. Prints tables, then one line
of JSON. The same seed gives the same tables.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.report import Record, Table
from gateway.pool import emptiest, sample

GATEWAYS = 20
SHORTEST, LONGEST, SHAPE = 30.0, 300.0, 1.1  # seconds of a song, and the exponent of Pareto
LOADS = (0.7, 0.85, 0.95)  # share of the slots that play
SIZES = (1, 2, 4, 8, 16, 32, 100)  # servers of a pool
WARM_UP = 0.1  # share of the songs that are not counted: the servers begin empty


@dataclass(frozen=True)
class Song:
    number: int
    gateway: int
    arrival: float
    seconds: float


@dataclass(eq=False)
class Server:
    """`own` are the songs of each gateway."""

    slots: int
    running: int = 0
    waiting: deque[Song] = field(default_factory=deque)
    own: list[int] = field(default_factory=lambda: [0] * GATEWAYS)

    @property
    def load(self) -> float:
        return (self.running + len(self.waiting)) / self.slots


Choice = Callable[[Sequence[Server], int, random.Random], Server]  # for a song of that gateway


def in_turn() -> Choice:
    """The gateways do not begin at the same server."""
    songs = [0] * GATEWAYS

    def choose(servers: Sequence[Server], gateway: int, _: random.Random) -> Server:
        songs[gateway] += 1
        return servers[(gateway * len(servers) // GATEWAYS + songs[gateway]) % len(servers)]

    return choose


def own_of_two(servers: Sequence[Server], gateway: int, rng: random.Random) -> Server:
    return min(sample(servers, rng, 2), key=lambda server: server.own[gateway])


CHOICES: dict[str, Choice] = {
    "random": lambda servers, _, rng: rng.choice(servers),
    "in turn": in_turn(),
    "own of two": own_of_two,
    "asked: two": lambda servers, _, rng: emptiest(sample(servers, rng, 2)),
    "asked: three": lambda servers, _, rng: emptiest(sample(servers, rng)),
    "asked: all": lambda servers, _, rng: emptiest(sample(servers, rng, len(servers))),
}


def seconds(rng: random.Random) -> float:
    """The length of a song: bounded Pareto."""
    least = (SHORTEST / LONGEST) ** SHAPE
    return float(SHORTEST * (1 - rng.random() * (1 - least)) ** (-1 / SHAPE))


def mean_seconds() -> float:
    least = (SHORTEST / LONGEST) ** SHAPE
    powers = SHORTEST ** (1 - SHAPE) - LONGEST ** (1 - SHAPE)
    return float(SHORTEST**SHAPE / (1 - least) * SHAPE / (SHAPE - 1) * powers)


def simulate(
    choice: Choice, servers: Sequence[Server], load: float, songs: int, seed: int
) -> list[float]:
    """The seconds that each song waits for its slot."""
    rng, now = random.Random(seed), 0.0
    choices = random.Random(seed + 1)  # of their own, so that every choice gets the same songs
    rate = load * sum(server.slots for server in servers) / mean_seconds()  # songs a second
    waits = [0.0] * songs
    ends: list[tuple[float, int, int, Server]] = []  # a heap: when, number, gateway, server

    def start(song: Song, server: Server, moment: float) -> None:
        waits[song.number] = moment - song.arrival
        heapq.heappush(ends, (moment + song.seconds, song.number, song.gateway, server))

    def end_songs(until: float) -> None:
        while ends and ends[0][0] <= until:
            moment, _, gateway, server = heapq.heappop(ends)
            server.own[gateway] -= 1
            if server.waiting:
                start(server.waiting.popleft(), server, moment)
            else:
                server.running -= 1

    for number in range(songs):
        now += rng.expovariate(rate)
        end_songs(now)
        song = Song(number, rng.randrange(GATEWAYS), now, seconds(rng))
        server = choice(servers, song.gateway, choices)
        server.own[song.gateway] += 1
        if server.running < server.slots:
            server.running += 1
            start(song, server, now)
        else:
            server.waiting.append(song)
    end_songs(math.inf)
    return waits[int(WARM_UP * songs) :]


def row(waits: Sequence[float]) -> Record:
    half, most = np.percentile(waits, (50, 99)).round(1).tolist()
    late = 100 * sum(wait > 10 for wait in waits) / len(waits)
    return {"median": half, "p99": most, "over 10 s, %": round(late, 2)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--servers", type=int, default=100)
    parser.add_argument("--slots", type=int, default=32, help="of a server")
    parser.add_argument("--songs", type=int, default=200_000, help="in each simulation")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    def run(choice: str, servers: int, load: float) -> list[float]:
        pool = [Server(arguments.slots) for _ in range(servers)]
        return simulate(CHOICES[choice], pool, load, arguments.songs, arguments.seed)

    choices = Table(f"{arguments.servers} servers of {arguments.slots} slots; seconds of wait")
    for load in LOADS:
        for choice in CHOICES:
            waits = run(choice, arguments.servers, load)
            choices.add({"slots in use, %": round(100 * load), "choice": choice, **row(waits)})
    sizes = Table("Pools of other sizes, asked: three; p99 of the seconds of wait")
    for servers in SIZES:
        most = {
            f"{100 * load:g} %": row(run("asked: three", servers, load))["p99"] for load in LOADS
        }
        sizes.add({"servers": servers, **most})
    record = {"bench": "fleet", **vars(arguments), "choices": choices.rows, "sizes": sizes.rows}
    print(json.dumps(record))


if __name__ == "__main__":
    main()
