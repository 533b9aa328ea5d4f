"""Checks that songs survive signals to processes: `python -m bench.recovery [--trials 100]`.

Each trial requests songs and sends a signal to a process, at a random moment between the request
and the last byte. The clients must get the uninterrupted songs, headers and all, to the byte. They
see only a pause, which lasts as long as the processes need to start, plus the seconds until a
process that hangs is noticed.

    --processes stub engine          these in turns
    --signals KILL TERM STOP SEGV    one of these
    --times 2                        sends it again, to the next process of the kind, which may load
    --formats wav flac ogg mp3       one of these
    --upload FILE                    songs continue the file, whole or with their new part alone
    --songs 20                       so many at a time; those beyond the slots wait
    --change                         each song gets another prompt within a second of the signal; it
                                     must equal the song that its receipt makes
    --servers 2                      a pool of so many; the server with most songs gets the signal

The processes get signals in turns, so that no death counts as one of a series, which would delay
the next start: a new stub has an engine that never failed, and a turn of all is longer than the
time after which Triton counts as steady. Prints tables, then one line of JSON; the exit code is 1
unless all songs were whole.
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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from statistics import median

import aiohttp
from multidict import CIMultiDict

from bench.process import SampledProcess
from bench.report import Record, Table, hardware
from bench.service import MODEL, metric, pool, process, running, songs
from supervisor.process import STEADY
from tests.conftest import Stack, until

PROCESSES = ("tritonserver", "stub", "engine", "fork server", "front")
FORMATS = ("wav", "flac", "ogg", "mp3")
TURN = STEADY + 5  # seconds at least, for Triton starts some seconds after its death
AGAIN = 3.0  # seconds at most between two signals of a trial
RECOVERY = 180.0  # seconds at most
TIMEOUT = aiohttp.ClientTimeout(RECOVERY)


@dataclass(frozen=True)
class Song:
    """`output` is that of a song which continues an upload, else None."""

    format: str
    output: str | None
    duration: float

    def body(self, upload: bytes) -> aiohttp.FormData | str:
        song = {"model": MODEL, "prompt": "fast happy flute with drums", "seed": 7}
        fields = {**song, "duration": self.duration, "format": self.format}
        if self.output is None:
            return json.dumps(fields)
        texts = {name: str(value) for name, value in fields.items()}
        form = aiohttp.FormData({**texts, "output": self.output})
        form.add_field("audio", upload, filename="beginning")
        return form


@dataclass(frozen=True)
class Response:
    """`times` are the moments, in seconds since the request, at which parts of the body arrived."""

    headers: CIMultiDict[str]
    body: bytes
    times: list[float]

    @property
    def pause(self) -> float:
        """The longest time without a part."""
        times = [0.0, *self.times]
        return max(later - earlier for earlier, later in pairwise(times))

    def equals(self, other: Response) -> bool:
        return (self.headers, self.body) == (other.headers, other.body)

    @property
    def samples(self) -> bytes:
        """Of a WAV, whose tags stand behind them."""
        return self.body[44 : 44 + int.from_bytes(self.body[40:44], "little")]


async def listen(stack: Stack, song: Song, upload: bytes, number: int = 0) -> Response:
    """The song, or as much as arrived; `number` tells songs at the same time apart."""
    parts: list[bytes] = []
    times: list[float] = []
    sent = {"X-Request-Id": f"bench-recovery-{number}"}
    if song.output is None:
        sent["Content-Type"] = "application/json"
    start = time.monotonic()
    async with (
        aiohttp.ClientSession(stack.url, timeout=TIMEOUT) as session,
        session.post("/generate", data=song.body(upload), headers=sent) as response,
    ):
        with suppress(aiohttp.ClientError, asyncio.TimeoutError):  # it broke off
            async for part in response.content.iter_any():
                parts.append(part)
                times.append(time.monotonic() - start)
    headers = response.headers.copy()
    for name in ("Date", "X-Request-Id"):
        del headers[name]
    return Response(headers, b"".join(parts), times)


@dataclass(frozen=True)
class Plan:
    """The work of a trial."""

    process: str
    signal: str
    song: Song
    songs: int
    delays: list[float]  # seconds before each signal
    change: float | None  # seconds before another prompt; None for no change

    async def run(self, stack: Stack, servers: list[Stack], upload: bytes) -> list[Response]:
        """The songs. Empty if they ended before the first signal."""
        songs = [
            asyncio.create_task(listen(stack, self.song, upload, number))
            for number in range(self.songs)
        ]
        changes = [
            asyncio.create_task(change(stack, number, self.change))
            for number in range(self.songs)
            if self.change is not None
        ]
        await asyncio.sleep(self.delays[0])
        if any(song.done() for song in songs):
            await asyncio.gather(*songs)
            return []
        for delay in [0.0, *self.delays[1:]]:
            await asyncio.sleep(delay)
            target = await asyncio.to_thread(victim, servers, self.process)
            with suppress(ProcessLookupError):  # it has ended by itself
                os.kill(target.pid, signal.Signals[f"SIG{self.signal}"])
        await asyncio.gather(*changes)
        return await asyncio.gather(*songs)


def victim(servers: list[Stack], name: str) -> SampledProcess:
    """A process of the server with most songs."""
    return process(max(servers, key=songs), name)


async def change(stack: Stack, number: int, delay: float) -> None:
    """Change a song. It may have ended, or not begun to be made."""
    await asyncio.sleep(delay)
    blend = [{"text": "slow sad piano", "weight": 2}, {"text": "organ", "weight": 1}]
    async with (
        aiohttp.ClientSession(stack.url, timeout=TIMEOUT) as session,
        session.patch(f"/generations/bench-recovery-{number}", json={"prompt": blend}),
    ):
        pass


async def again(stack: Stack, number: int) -> Response:
    """The song that the receipt of a song makes."""
    async with (
        aiohttp.ClientSession(stack.url, timeout=TIMEOUT) as session,
        session.get(f"/generations/bench-recovery-{number}/receipt") as receipt,
        session.post("/generate", json=await receipt.json()) as response,
    ):
        return Response(response.headers.copy(), await response.read(), [])


@contextmanager
def service(servers: int) -> Iterator[tuple[Stack, list[Stack]]]:
    """The gateway, and its servers; that of `make serve` without a number of servers."""
    if servers:
        with pool(servers) as parts:
            yield parts
    else:
        with running() as stack:
            yield stack, [stack]


def trial(
    stack: Stack, servers: list[Stack], plan: Plan, upload: bytes, whole: Response
) -> Record | None:
    until(lambda: stack.get("/readyz")[0] == 200, RECOVERY)
    if servers[1:]:
        page = f"{stack.url}/metrics"
        until(lambda: metric(page, "gateway_servers", state="ready") == len(servers), RECOVERY)
    before = resumes(stack)
    responses = asyncio.run(plan.run(stack, servers, upload))
    if not responses:
        return None
    equal = [response.equals(whole) for response in responses]
    if plan.change is not None:
        songs = [asyncio.run(again(stack, number)) for number in range(plan.songs)]
        equal = [one.samples == other.samples for one, other in zip(responses, songs, strict=True)]
    return {
        "process": plan.process,
        "signal": plan.signal,
        "format": plan.song.format,
        "output": plan.song.output or "-",
        "after, s": " ".join(f"{delay:.2f}" for delay in plan.delays),
        "songs": len(responses),
        "whole": sum(equal),
        "pause, s": round(max(response.pause for response in responses), 2),
        "resumes": resumes(stack) - before,
    }


def resumes(stack: Stack) -> int:
    return metric(f"{stack.url}/metrics", "gateway_resumes_total")


def summary(name: str, number: str, trials: list[Record]) -> Record:
    pauses = [trial["pause, s"] for trial in trials]
    return {
        "process": name,
        "signal": number,
        "trials": len(trials),
        "songs": sum(trial["songs"] for trial in trials),
        "whole": sum(trial["whole"] for trial in trials),
        "resumes": sum(trial["resumes"] for trial in trials),
        "pause, s": round(median(pauses), 1),
        "longest": max(pauses),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=100, help="for each process")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    parser.add_argument("--processes", nargs="+", default=PROCESSES[:3], choices=PROCESSES)
    parser.add_argument("--signals", nargs="+", default=["KILL"])
    parser.add_argument("--times", type=int, default=1, help="signals in a trial")
    parser.add_argument("--formats", nargs="+", default=["wav"], choices=FORMATS)
    parser.add_argument("--upload", type=Path, help="a file that the songs continue")
    parser.add_argument("--songs", type=int, default=1, help="at a time")
    parser.add_argument("--change", action="store_true", help="the songs' prompts, in mid-song")
    parser.add_argument("--duration", type=float, default=8.0, help="of a song, in seconds")
    parser.add_argument("--servers", type=int, default=0, help="of a pool, in place of one")
    arguments = parser.parse_args()
    if arguments.change and (arguments.upload or arguments.formats != ["wav"]):
        parser.error("--change is for WAV without --upload")
    rng, trials = random.Random(arguments.seed), Table("Trials")
    upload = arguments.upload.read_bytes() if arguments.upload else b""
    outputs = ("whole", "new") if upload else (None,)
    songs = [
        Song(format, output, arguments.duration)
        for format, output in product(arguments.formats, outputs)
    ]
    with service(arguments.servers) as (stack, servers):
        asyncio.run(listen(stack, songs[0], upload))  # warms up
        whole = {song: asyncio.run(listen(stack, song, upload)) for song in songs}
        for _ in range(arguments.trials):
            start = time.monotonic()
            for name in arguments.processes:
                row = None
                while row is None:
                    song = rng.choice(songs)
                    first = rng.uniform(0, whole[song].times[-1])
                    later = [rng.uniform(0, AGAIN) for _ in range(arguments.times - 1)]
                    number = rng.choice(arguments.signals)
                    near = max(0.0, first + rng.uniform(-1, 1)) if arguments.change else None
                    plan = Plan(name, number, song, arguments.songs, [first, *later], near)
                    row = trial(stack, servers, plan, upload, whole[song])
                trials.add(row)
            time.sleep(max(0, start + TURN - time.monotonic()))
    results = Table(f"Songs of {arguments.duration:g} s")
    for name, number in product(arguments.processes, arguments.signals):
        rows = [row for row in trials.rows if (row["process"], row["signal"]) == (name, number)]
        if rows:
            results.add(summary(name, number, rows))
    record = {"bench": "recovery", "hardware": hardware(), "seed": arguments.seed}
    record["servers"] = arguments.servers
    print(json.dumps({**record, "songs": results.rows}))
    sys.exit(any(row["whole"] < row["songs"] for row in trials.rows))


if __name__ == "__main__":
    main()
