"""Checks that songs survive `kill -9`: `python -m bench.recovery [--trials 100]`.

Requests one song again and again, and kills tritonserver, stub or engine at a random moment between
the first byte and the last. The client must get the uninterrupted song, headers and all, to the
byte. It sees only a pause, which lasts as long as the processes need to start, plus ten seconds
until the gateway notices a dead stub.

The processes die in turns, so that no death counts as one of a series, which would delay the next
start: a new stub has an engine that never failed, and a round is longer than the time after which
Triton counts as steady. So a hundred rounds take two hours, on any machine. Prints tables, then one
line of JSON; the exit code is 1 unless all songs were whole.
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

from bench.report import Record, Table, hardware
from bench.service import MODEL, metric, process, running
from supervisor.process import STEADY
from tests.conftest import Stack, until

SONG = {"model": MODEL, "prompt": "fast happy flute with drums", "duration": 8, "seed": 7}
HEADERS = {"X-Request-Id": "bench-recovery"}
VICTIMS = ("tritonserver", "stub", "engine")
ROUND = STEADY + 5  # seconds at least, for Triton starts some seconds after its death
RECOVERY = 180.0  # seconds at most
TIMEOUT = aiohttp.ClientTimeout(RECOVERY)


@dataclass(frozen=True)
class Response:
    """`times` are the moments, in seconds, at which parts of the body arrived."""

    headers: dict[str, str]
    body: bytes
    times: list[float]

    @property
    def seconds(self) -> float:
        return self.times[-1] - self.times[0]

    @property
    def pause(self) -> float:
        """The longest time between two parts."""
        return max((later - earlier for earlier, later in pairwise(self.times)), default=0.0)

    def equals(self, other: Response) -> bool:
        return (self.headers, self.body) == (other.headers, other.body)


async def listen(stack: Stack, victim: int | None = None, delay: float = 0.0) -> Response:
    """The song, or as much as arrived; `victim` is killed `delay` seconds after the first byte."""
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    times: list[float] = []
    async with (
        aiohttp.ClientSession(stack.url, headers=HEADERS, timeout=TIMEOUT) as session,
        session.post("/generate", json=SONG) as response,
    ):
        with suppress(aiohttp.ClientError, asyncio.TimeoutError):  # it broke off
            async for part in response.content.iter_any():
                if victim and not times:
                    loop.call_later(delay, os.kill, victim, signal.SIGKILL)
                parts.append(part)
                times.append(loop.time())
    headers = {name: value for name, value in response.headers.items() if name != "Date"}
    return Response(headers, b"".join(parts), times)


def trial(stack: Stack, victim: str, whole: Response, rng: random.Random) -> Record:
    until(lambda: stack.get("/readyz")[0] == 200, RECOVERY)
    before, target = resumes(stack), process(stack, victim)
    while True:
        delay = rng.uniform(0, whole.seconds)
        response = asyncio.run(listen(stack, target.pid, delay))
        if not target.alive:  # else this song was faster, and ended before the kill
            break
    return {
        "killed": victim,
        "after, s": round(delay, 2),
        "whole": response.equals(whole),
        "pause, s": round(response.pause, 2),
        "resumes": resumes(stack) - before,
    }


def resumes(stack: Stack) -> int:
    return metric(f"{stack.url}/metrics", "gateway_resumes_total")


def summary(victim: str, trials: Sequence[Record]) -> Record:
    pauses = [trial["pause, s"] for trial in trials]
    return {
        "killed": victim,
        "trials": len(trials),
        "whole": sum(trial["whole"] for trial in trials),
        "resumes": sum(trial["resumes"] for trial in trials),
        "pause, s": round(median(pauses), 1),
        "longest": max(pauses),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=100, help="for each process")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    arguments = parser.parse_args()
    rng, trials = random.Random(arguments.seed), Table("Trials")
    with running() as stack:
        asyncio.run(listen(stack))  # warms up
        whole = asyncio.run(listen(stack))
        for _ in range(arguments.trials):
            start = time.monotonic()
            for victim in VICTIMS:
                trials.add(trial(stack, victim, whole, rng))
            time.sleep(max(0, start + ROUND - time.monotonic()))
    results = Table(f"A song of {SONG['duration']} s")
    for victim in VICTIMS:
        results.add(summary(victim, [row for row in trials.rows if row["killed"] == victim]))
    record = {"bench": "recovery", "hardware": hardware(), "seed": arguments.seed}
    print(json.dumps({**record, "songs": results.rows}))
    sys.exit(not all(row["whole"] for row in trials.rows))


if __name__ == "__main__":
    main()
