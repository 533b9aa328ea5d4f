"""How many songs one core can stream: `python -m bench.streams [--streams 500 ...]`.

The gateway alone on the first core; Triton, whose model only plays noise (bench/noise.py), and the
listeners on the others. Songs begin spread over ten seconds and come at the pace of real time. A
listener plays from the first byte on: whatever comes later than it should be played is late.

A stream costs the gateway one chunk a second (128 KB of floats in, 64 KB of samples out) and one
status. Where that fills the core, everybody is late. /healthz is asked all the while: it needs
neither Triton nor another core, so its wait is what the gateway itself adds to all the others. A
table first, one line of JSON last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import numpy as np

from bench import machine
from bench.process import Process
from bench.service import serving
from bench.table import Record, Table
from tests.conftest import ROOT, Stack, descendants, repository_with

SPREAD = 10.0  # seconds in which the songs begin
PROBE = 0.1  # seconds between two questions for health
SECOND = 64_000  # bytes
MODEL = "noise"


@dataclass(frozen=True)
class Heard:
    """Seconds: until the first byte of the music, and how late its latest was after that."""

    wait: float
    late: float


async def listen(session: aiohttp.ClientSession, seconds: int) -> Heard:
    asked = time.perf_counter()
    song = {"model": MODEL, "prompt": "noise", "duration": seconds}
    async with session.post("/generate", json=song, raise_for_status=True) as answer:
        first, late, played = None, 0.0, 0.0
        async for piece in answer.content.iter_any():
            now = time.perf_counter()
            first = first or now
            late = max(late, now - first - played)
            played += len(piece) / SECOND
    assert first
    return Heard(first - asked, late)


async def probe(session: aiohttp.ClientSession, waits: list[float]) -> None:
    """Asks for the gateway's health, for ever."""
    while True:
        asked = time.perf_counter()
        async with session.get("/healthz") as answer:
            await answer.read()
        waits.append(time.perf_counter() - asked)
        await asyncio.sleep(PROBE)


async def load(stack: Stack, streams: int, seconds: int) -> Record:
    """What so many listeners hear, and what it costs while all of them listen."""
    parts = {name: [Process(pid) for pid in pids] for name, pids in processes(stack).items()}

    def cpu() -> dict[str, float]:
        return {name: sum(process.cpu for process in part) for name, part in parts.items()}

    waits: list[float] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(stack.url, connector=connector) as session:
        await listen(session, 1)
        probing = asyncio.create_task(probe(session, waits))
        songs = []
        for _ in range(streams):
            songs.append(asyncio.create_task(listen(session, seconds)))
            await asyncio.sleep(SPREAD / streams)
        began, before = time.perf_counter(), cpu()
        await asyncio.sleep(seconds - SPREAD - 2)
        took, after = time.perf_counter() - began, cpu()
        memory = {name: sum(process.memory for process in part) for name, part in parts.items()}
        ended = await asyncio.gather(*songs, return_exceptions=True)
        probing.cancel()
    heard = [song for song in ended if isinstance(song, Heard)]
    times = Table(f"{streams} streams, {streams - len(heard)} broken off; milliseconds")
    times.add(spread("first byte", [song.wait for song in heard]))
    times.add(spread("late", [song.late for song in heard]))
    times.add(spread("/healthz", waits))
    costs = Table("Share of a core, memory")
    for name in parts:
        share = round(100 * (after[name] - before[name]) / took)
        costs.add({"process": name, "core, %": share, "MB": memory[name]})
    return {"streams": streams, "heard": len(heard), "times": times.rows, "costs": costs.rows}


def spread(name: str, seconds: Sequence[float]) -> Record:
    values = np.percentile(np.array(seconds) * 1000, (50, 95, 99, 100)).round(1).tolist()
    return {"measure": name, **dict(zip(("median", "p95", "p99", "max"), values, strict=True))}


def processes(stack: Stack) -> dict[str, list[int]]:
    family = descendants(stack.process.pid)
    gateway = [pid for pid, line in family.items() if "-m gateway" in line]
    return {
        "gateway": gateway,
        "Triton": [pid for pid in family if pid not in gateway],
        "listeners": [os.getpid()],
    }


def pin(stack: Stack) -> None:
    """The gateway has the first core for itself."""
    cores = os.sched_getaffinity(0)
    first = {min(cores)}
    for name, pids in processes(stack).items():
        for pid in pids:
            Process(pid).pin(first if name == "gateway" else cores - first)


def repository(folder: Path) -> Path:
    """The front, and the variant that plays noise."""
    models = repository_with(folder / "models")
    noise = models / MODEL
    (noise / "1").mkdir(parents=True)
    shutil.copy(ROOT / "model_repository" / "musicgen-tiny" / "config.pbtxt", noise)
    (noise / "1" / "model.py").write_text("from bench.noise import TritonPythonModel\n")
    return models


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, nargs="+", default=[500])
    parser.add_argument("--seconds", type=int, default=60, help="of each song")
    arguments = parser.parse_args()
    with (
        TemporaryDirectory() as folder,
        serving(repository(Path(folder)), DEFAULT_MODEL=MODEL) as stack,
    ):
        pin(stack)
        results = [
            asyncio.run(load(stack, streams, arguments.seconds)) for streams in arguments.streams
        ]
    print(json.dumps({"bench": "streams", "hardware": machine.name(), "loads": results}))


if __name__ == "__main__":
    main()
