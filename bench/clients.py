"""Looks for leaks under abuse: `python -m bench.clients [--clients 64] [--minutes 10]`.

All clients at once misuse the service (see abusive_client.py): they read slowly, leave in the
middle of a song, send garbage, half requests and random bytes as files, watch songs and go. Every
minute a table shows what each process holds, and the songs in progress.

No request may fail except by its own fault. When all clients are gone, no song may be left. Triton
must unload the model, which it does not while it counts a request as running; its own metric does
not show such requests, because the models respond from other threads. And a song must be the same
as before, to the byte. Prints tables, then one line of JSON; the exit code is 1 unless all of this
holds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.request import Request, urlopen

import aiohttp

from bench.abusive_client import AbusiveClient
from bench.report import Table, hardware
from bench.service import MODEL, PARTS, metric, process, running
from supervisor import shared_memory
from tests.conftest import ADMIN, Stack, until

SONG = {"model": MODEL, "prompt": "slow sad piano", "duration": 6, "seed": 3}
ACTIONS = (
    AbusiveClient.listen,
    AbusiveClient.leave,
    AbusiveClient.watch,
    AbusiveClient.upload,
    AbusiveClient.send_garbage,
)
MINUTE = 60.0  # seconds
FAILURES = {"500", "503", "504", "ClientPayloadError"}  # the last one is a song that broke off
TIMEOUT = 60.0  # seconds, for a song or process to end by itself

Outcomes = Counter[tuple[str, str]]  # how often each action had each outcome


async def abuse(stack: Stack, clients: int, minutes: float, seed: int, held: Table) -> Outcomes:
    """Run the clients; `held` gets a few rows every minute."""
    outcomes: Outcomes = Counter()
    start = time.monotonic()
    end = start + minutes * MINUTE
    tasks = {
        asyncio.create_task(run_client(stack, random.Random(f"{seed} {n}"), end, outcomes))
        for n in range(clients)
    }
    while tasks:
        done, tasks = await asyncio.wait(tasks, timeout=MINUTE)
        await asyncio.gather(*done)
        await asyncio.to_thread(record, stack, f"{(time.monotonic() - start) / MINUTE:.1f}", held)
    return outcomes


async def run_client(stack: Stack, rng: random.Random, end: float, outcomes: Outcomes) -> None:
    async with aiohttp.ClientSession(stack.url) as session:
        client = AbusiveClient(session, stack.port, rng)
        while time.monotonic() < end:
            action = rng.choice(ACTIONS)
            try:
                outcome = await action(client)
            except asyncio.TimeoutError:
                outcome = "left"
            except (aiohttp.ClientError, OSError) as error:
                outcome = type(error).__name__
            outcomes[action.__name__, outcome] += 1


def record(stack: Stack, minute: str, held: Table) -> None:
    """Add what each process holds now. Triton's files in /dev/shm are the memory of its stubs."""
    songs: dict[str, object] = {**songs_in_progress(stack)}
    for name in PARTS:
        part = process(stack, name)
        sizes = {"MB": part.memory, "files": part.files, "threads": part.threads}
        held.add({"minute": minute, "process": name, **sizes, "songs": songs.get(name, "")})
    prefix = shared_memory.NAME.format(f"{stack.process.pid}-*")
    shared = [file.stat().st_size for file in shared_memory.FOLDER.glob(f"{prefix}*")]
    sizes = {"MB": sum(shared) // 2**20, "files": len(shared)}
    held.add({"minute": minute, "process": "/dev/shm", **sizes, "threads": "", "songs": ""})


def songs_in_progress(stack: Stack) -> dict[str, int]:
    """Songs requested from the gateway, pending in Triton, and in the engine."""
    triton = f"http://localhost:{stack.triton_metrics}/metrics"
    model = status(stack)
    return {
        "gateway": metric(f"{stack.url}/metrics", "gateway_songs_in_flight"),
        "tritonserver": metric(triton, "nv_inference_pending_request_count"),
        "engine": model["queued"] + model["running"],
    }


def status(stack: Stack) -> Any:
    """The STATUS of the model."""
    url = f"http://localhost:{stack.triton_http}/v2/models/{MODEL}/generate_stream"
    with urlopen(Request(url, b"{}")) as response:
        return json.loads(json.loads(response.read().removeprefix(b"data: "))["STATUS"])


def happens(condition: Callable[[], bool]) -> bool:
    """Whether the condition becomes true within TIMEOUT."""
    with suppress(AssertionError):
        return bool(until(condition, TIMEOUT))
    return False


def unloads(stack: Stack) -> bool:
    """Whether Triton unloads the model. The gateway loads it again at once, but the stub ends."""
    stub = process(stack, "stub")
    url = f"http://localhost:{stack.triton_http}/v2/repository/models/{MODEL}/unload"
    urlopen(Request(url, b"{}", ADMIN)).close()
    return happens(lambda: not stub.alive)


def song(stack: Stack) -> bytes:
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"{stack.url}/generate", json.dumps(SONG).encode(), headers)) as response:
        return bytes(response.read())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the clients' random choices")
    arguments = parser.parse_args()
    with running() as stack:
        before, held = song(stack), Table("Held by the processes")
        record(stack, "before", held)
        outcomes = asyncio.run(
            abuse(stack, arguments.clients, arguments.minutes, arguments.seed, held)
        )
        afterwards = {"nothing failed": FAILURES.isdisjoint(outcome for _, outcome in outcomes)}
        afterwards["no song is left"] = happens(lambda: not any(songs_in_progress(stack).values()))
        record(stack, "after", held)
        afterwards["the model unloads"] = unloads(stack)
        afterwards["a song is the same"] = song(stack) == before
    table = Table("Outcomes")
    for (action, outcome), count in sorted(outcomes.items()):
        table.add({"action": action, "outcome": outcome, "count": count})
    summary = Table("Afterwards")
    summary.add(afterwards)
    results = {"bench": "clients", "hardware": hardware(), **vars(arguments)}
    print(json.dumps({**results, "held": held.rows, "outcomes": table.rows, **afterwards}))
    sys.exit(not all(afterwards.values()))


if __name__ == "__main__":
    main()
