"""Whether songs outlive what makes them: `python -m bench.recovery [--trials 100]`.

Asks for one song again and again, and kills tritonserver, stub or engine at a random moment between
its first byte and its last. It has to be the uninterrupted song, headers and all, to the byte. The
listener has nothing but a pause, as long as the processes take to come back: mostly the imports of
the engine, and ten seconds in which nobody knows that a stub is dead.

They die in turns, so that no death is taken for one of a series, after which the next start would
be put off: a new stub brings an engine that never failed, and a round outlasts the time after which
Triton counts as steady. So a hundred rounds take two hours on idle cores, however many there are.
Tables first, one line of JSON last; the exit code is 1 unless all songs were whole.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import aiohttp

from bench import machine
from bench.service import MODEL, counted, part, running
from bench.table import Record, Table
from supervisor.process import STEADY
from tests.conftest import Stack, until

SONG = {"model": MODEL, "prompt": "fast happy flute with drums", "duration": 8, "seed": 7}
NAME = {"X-Request-Id": "bench-recovery"}
MORTALS = ("tritonserver", "stub", "engine")
ROUND = STEADY + 5  # seconds at the least, for Triton starts some seconds after it died
HEALING = 180.0  # seconds at the most
TIMEOUT = aiohttp.ClientTimeout(HEALING)


@dataclass(frozen=True)
class Heard:
    """`times` are those at which pieces of the body came, in seconds."""

    headers: dict[str, str]
    body: bytes
    times: list[float]

    @property
    def took(self) -> float:
        return self.times[-1] - self.times[0]

    @property
    def pause(self) -> float:
        """The longest between two pieces."""
        return max((later - earlier for earlier, later in pairwise(self.times)), default=0.0)

    def is_as(self, other: Heard) -> bool:
        return (self.headers, self.body) == (other.headers, other.body)


async def listen(stack: Stack, victim: int | None = None, moment: float = 0.0) -> Heard:
    """The song, or what came of it; `moment` seconds after its first byte `victim` is killed."""
    loop = asyncio.get_running_loop()
    pieces: list[bytes] = []
    times: list[float] = []
    async with (
        aiohttp.ClientSession(stack.url, headers=NAME, timeout=TIMEOUT) as session,
        session.post("/generate", json=SONG) as answer,
    ):
        with suppress(aiohttp.ClientError, asyncio.TimeoutError):  # broken off
            async for piece in answer.content.iter_any():
                if victim and not times:
                    loop.call_later(moment, os.kill, victim, signal.SIGKILL)
                pieces.append(piece)
                times.append(loop.time())
    headers = {name: value for name, value in answer.headers.items() if name != "Date"}
    return Heard(headers, b"".join(pieces), times)


def trial(stack: Stack, mortal: str, whole: Heard, dice: random.Random) -> Record:
    until(lambda: stack.get("/readyz")[0] == 200, HEALING)
    before, process = resumes(stack), part(stack, mortal)
    while True:
        moment = dice.uniform(0, whole.took)
        heard = asyncio.run(listen(stack, process.pid, moment))
        if not process.alive:  # else this song was faster, and has ended before its moment
            break
    return {
        "killed": mortal,
        "after, s": round(moment, 2),
        "whole": heard.is_as(whole),
        "pause, s": round(heard.pause, 2),
        "resumes": resumes(stack) - before,
    }


def resumes(stack: Stack) -> int:
    return counted(f"{stack.url}/metrics", "gateway_resumes_total")


def summary(mortal: str, trials: Sequence[Record]) -> Record:
    pauses = [trial["pause, s"] for trial in trials]
    return {
        "killed": mortal,
        "trials": len(trials),
        "whole": sum(trial["whole"] for trial in trials),
        "resumes": sum(trial["resumes"] for trial in trials),
        "pause, s": round(median(pauses), 1),
        "longest": max(pauses),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=100, help="of each process")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    dice, trials = random.Random(arguments.seed), Table("Trials")
    with running() as stack:
        asyncio.run(listen(stack))  # warms up
        whole = asyncio.run(listen(stack))
        for _ in range(arguments.trials):
            began = time.monotonic()
            for mortal in MORTALS:
                trials.add(trial(stack, mortal, whole, dice))
            time.sleep(max(0, began + ROUND - time.monotonic()))
    results = Table(f"A song of {SONG['duration']} s")
    for mortal in MORTALS:
        results.add(summary(mortal, [row for row in trials.rows if row["killed"] == mortal]))
    record = {"bench": "recovery", "hardware": machine.name(), "seed": arguments.seed}
    print(json.dumps({**record, "songs": results.rows}))
    sys.exit(not all(row["whole"] for row in trials.rows))


if __name__ == "__main__":
    main()
