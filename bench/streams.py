"""Measures how many songs one core can stream: `python -m bench.streams [--streams 500 ...]`.

The gateway runs alone on the first core; the clients, and Triton with a model that only sends noise
(noise.py), run on the others. Songs start within ten seconds and arrive in real time. A client
plays from the first byte on; audio that arrives after its time to be played is late.

`--rate 20000` shows the memory of songs whose clients read them more slowly than they are made.

`--gateways one pool` compares the gateway of one Triton with that of a pool, in front of the same
server.

A stream costs the gateway one chunk (128 KB of floats in, 64 KB of samples out) and one status per
second. When these fill the core, all songs are late. /healthz needs neither Triton nor another
core, so that its response time is what the gateway adds to all other requests. Prints tables, then
one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import numpy as np

from bench.process import SampledProcess
from bench.report import Record, Table, hardware
from bench.service import part, triton
from tests.conftest import ROOT, Stack, descendants, repository_with

SPREAD = 10.0  # seconds within which the songs start
PROBE_INTERVAL = 0.1  # seconds between two requests for /healthz
SECOND = 64_000  # bytes
MODEL = "noise"
# By the kind of a gateway: the variable for Triton's address, and what stands before that.
KINDS = {"one": ("TRITON_GRPC", ""), "pool": ("TRITON_POOLS", f"{MODEL}=")}


@dataclass(frozen=True)
class Timing:
    """Seconds from the request to the first byte, and the latest that any audio was after that."""

    wait: float
    late: float


async def listen(session: aiohttp.ClientSession, seconds: int, rate: int | None = None) -> Timing:
    """Read a song as it comes, or for its `seconds` so many bytes a second, then the rest of it."""
    start = time.perf_counter()
    song = {"model": MODEL, "prompt": "noise", "duration": seconds}
    async with session.post("/generate", json=song, raise_for_status=True) as response:
        first, late, played = None, 0.0, 0.0
        async for part in response.content.iter_any():
            now = time.perf_counter()
            first = first or now
            late = max(late, now - first - played)
            played += len(part) / SECOND
            if rate and now - start < seconds:
                await asyncio.sleep(len(part) / rate)
    assert first
    return Timing(first - start, late)


async def probe(session: aiohttp.ClientSession, waits: list[float]) -> None:
    """Request the gateway's health until cancelled, and add the response times to `waits`."""
    while True:
        start = time.perf_counter()
        async with session.get("/healthz") as response:
            await response.read()
        waits.append(time.perf_counter() - start)
        await asyncio.sleep(PROBE_INTERVAL)


async def load(
    gateway: Stack, triton: Stack, streams: int, seconds: int, rate: int | None
) -> Record:
    """Timings of all streams, and the costs while all of them run."""
    pids = {"gateway": family(gateway), "Triton": family(triton), "clients": [os.getpid()]}
    parts = {name: [SampledProcess(pid) for pid in part] for name, part in pids.items()}

    def cpu() -> dict[str, float]:
        return {name: sum(process.cpu for process in part) for name, part in parts.items()}

    waits: list[float] = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(gateway.url, connector=connector) as session:
        await listen(session, 1)
        probing = asyncio.create_task(probe(session, waits))
        songs = []
        for _ in range(streams):
            songs.append(asyncio.create_task(listen(session, seconds, rate)))
            await asyncio.sleep(SPREAD / streams)
        start, before = time.perf_counter(), cpu()
        await asyncio.sleep(seconds - SPREAD - 2)
        elapsed, after = time.perf_counter() - start, cpu()
        memory = {name: sum(process.memory for process in part) for name, part in parts.items()}
        results = await asyncio.gather(*songs, return_exceptions=True)
        probing.cancel()
    timings = [result for result in results if isinstance(result, Timing)]
    times = Table(f"{streams} streams, {streams - len(timings)} broke off; milliseconds")
    times.add(percentiles("first byte", [timing.wait for timing in timings]))
    times.add(percentiles("late", [timing.late for timing in timings]))
    times.add(percentiles("/healthz", waits))
    costs = Table("Share of a core, memory")
    for name in parts:
        share = round(100 * (after[name] - before[name]) / elapsed)
        costs.add({"process": name, "core, %": share, "MB": memory[name]})
    return {"streams": streams, "whole": len(timings), "times": times.rows, "costs": costs.rows}


def percentiles(name: str, seconds: Sequence[float]) -> Record:
    values = np.percentile(np.array(seconds) * 1000, (50, 95, 99, 100)).round(1).tolist()
    return {"measure": name, **dict(zip(("median", "p95", "p99", "max"), values, strict=True))}


def family(part: Stack) -> list[int]:
    return [part.process.pid, *descendants(part.process.pid)]


def pin(gateways: Iterable[Stack], triton: Stack) -> None:
    """Give the first core to the gateways alone."""
    cores = os.sched_getaffinity(0)
    first = {min(cores)}
    for pid in (pid for gateway in gateways for pid in family(gateway)):
        SampledProcess(pid).pin(first)
    for pid in (*family(triton), os.getpid()):
        SampledProcess(pid).pin(cores - first)


def repository(folder: Path) -> Path:
    """A model repository with the front and the variant that sends noise."""
    models = repository_with(folder / "models")
    noise = models / MODEL
    (noise / "1").mkdir(parents=True)
    shutil.copy(ROOT / "model_repository" / "musicgen-tiny" / "config.pbtxt", noise)
    (noise / "1" / "model.py").write_text(
        "from bench.noise import NoiseModel as TritonPythonModel\n"
    )
    return models


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, nargs="+", default=[500])
    parser.add_argument("--seconds", type=int, default=60, help="of each song")
    parser.add_argument("--rate", type=int, help="bytes a second that a client reads at most")
    parser.add_argument("--gateways", nargs="+", choices=KINDS, default=["one"])
    arguments = parser.parse_args()
    results = []
    with TemporaryDirectory() as folder, ExitStack() as stacks:
        models = repository(Path(folder))
        server = triton(stacks, models, MODEL)
        address = f"127.0.0.1:{server.triton_grpc}"
        gateways = {
            kind: part(stacks, models, "gateway", DEFAULT_MODEL=MODEL, **{name: value + address})
            for kind, (name, value) in KINDS.items()
            if kind in arguments.gateways
        }
        for gateway in gateways.values():
            gateway.wait_ready()
        pin(gateways.values(), server)
        for streams, kind in product(arguments.streams, gateways):
            print(f"\n# gateway of {kind}")
            seconds, rate = arguments.seconds, arguments.rate
            result = asyncio.run(load(gateways[kind], server, streams, seconds, rate))
            results.append({"gateway": kind, **result})
    print(json.dumps({"bench": "streams", "hardware": hardware(), "loads": results}))


if __name__ == "__main__":
    main()
