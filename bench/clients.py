"""Whether anything leaks: `python -m bench.clients [--clients 64] [--minutes 10]`.

So many clients at once, none of which behaves (bench/vandal.py): they read slowly, leave in
mid-song, send garbage, halves of requests and noise as files, watch songs and go. Each minute: what
every process holds, and how many songs are in its hands.

Nothing may fail but what asks for it, and when all are gone no song may be left. Triton has to
unload the model, which it does not while it takes any request for running; its own count of them
does not tell, for the models answer from other threads. And a song has to be the same as before, to
the byte. Tables first, one line of JSON last; the exit code is 1 unless all that is so.
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

from bench import machine
from bench.service import MODEL, PARTS, counted, part, running
from bench.table import Table
from bench.abusive_client import Vandal
from supervisor import shared_memory
from tests.conftest import ADMIN, Stack, until

SONG = {"model": MODEL, "prompt": "slow sad piano", "duration": 6, "seed": 3}
DEEDS = (Vandal.listen, Vandal.leave, Vandal.watch, Vandal.upload, Vandal.babble)
MINUTE = 60.0  # seconds
FAILURES = {"500", "503", "504", "ClientPayloadError"}  # the last one is a song that broke off
PATIENCE = 60.0  # seconds, with what ends by itself

Answers = Counter[tuple[str, str]]  # by what was done and what came of it


async def storm(stack: Stack, clients: int, minutes: float, seed: int, held: Table) -> Answers:
    """Writes down in `held` what the service holds meanwhile."""
    answers: Answers = Counter()
    began = time.monotonic()
    ends = began + minutes * MINUTE
    raging = {
        asyncio.create_task(misbehave(stack, random.Random(f"{seed} {n}"), ends, answers))
        for n in range(clients)
    }
    while raging:
        done, raging = await asyncio.wait(raging, timeout=MINUTE)
        await asyncio.gather(*done)
        await asyncio.to_thread(look, stack, f"{(time.monotonic() - began) / MINUTE:.1f}", held)
    return answers


async def misbehave(stack: Stack, dice: random.Random, ends: float, answers: Answers) -> None:
    async with aiohttp.ClientSession(stack.url) as session:
        vandal = Vandal(session, stack.port, dice)
        while time.monotonic() < ends:
            deed = dice.choice(DEEDS)
            try:
                answer = await deed(vandal)
            except asyncio.TimeoutError:
                answer = "left"
            except (aiohttp.ClientError, OSError) as error:
                answer = type(error).__name__
            answers[deed.__name__, answer] += 1


def look(stack: Stack, minute: str, held: Table) -> None:
    """What each process holds now; Triton's files in /dev/shm are its stubs' memory."""
    songs: dict[str, object] = {**songs_in_hand(stack)}
    for name in PARTS:
        process = part(stack, name)
        sizes = {"MB": process.memory, "files": process.files, "threads": process.threads}
        held.add({"minute": minute, "process": name, **sizes, "songs": songs.get(name, "")})
    prefix = shared_memory.NAME.format(stack.process.pid)
    shared = [file.stat().st_size for file in shared_memory.FOLDER.glob(f"{prefix}*")]
    sizes = {"MB": sum(shared) // 2**20, "files": len(shared)}
    held.add({"minute": minute, "process": "/dev/shm", **sizes, "threads": "", "songs": ""})


def songs_in_hand(stack: Stack) -> dict[str, int]:
    """Asked for, not yet handed to the model, and queued or playing."""
    triton = f"http://localhost:{stack.triton_metrics}/metrics"
    model = status(stack)
    return {
        "gateway": counted(f"{stack.url}/metrics", "gateway_songs_in_flight"),
        "tritonserver": counted(triton, "nv_inference_pending_request_count"),
        "engine": model["queued"] + model["running"],
    }


def status(stack: Stack) -> Any:
    """The model's own."""
    url = f"http://localhost:{stack.triton_http}/v2/models/{MODEL}/generate_stream"
    with urlopen(Request(url, b"{}")) as answer:
        return json.loads(json.loads(answer.read().removeprefix(b"data: "))["STATUS"])


def happens(condition: Callable[[], bool]) -> bool:
    """By itself, and in time."""
    with suppress(AssertionError):
        return bool(until(condition, PATIENCE))
    return False


def unloads(stack: Stack) -> bool:
    """The gateway loads it again at once: what ends is the process."""
    stub = part(stack, "stub")
    url = f"http://localhost:{stack.triton_http}/v2/repository/models/{MODEL}/unload"
    urlopen(Request(url, b"{}", ADMIN)).close()
    return happens(lambda: not stub.alive)


def song(stack: Stack) -> bytes:
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"{stack.url}/generate", json.dumps(SONG).encode(), headers)) as answer:
        return bytes(answer.read())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of what they do")
    arguments = parser.parse_args()
    with running() as stack:
        before, held = song(stack), Table("Held by the service")
        look(stack, "before", held)
        answers = asyncio.run(
            storm(stack, arguments.clients, arguments.minutes, arguments.seed, held)
        )
        afterwards = {"nothing failed": FAILURES.isdisjoint(answer for _, answer in answers)}
        afterwards["no song is left"] = happens(lambda: not any(songs_in_hand(stack).values()))
        look(stack, "after", held)
        afterwards["the model unloads"] = unloads(stack)
        afterwards["a song is the same"] = song(stack) == before
    table = Table("Answers")
    for (deed, answer), count in sorted(answers.items()):
        table.add({"deed": deed, "answer": answer, "count": count})
    outcome = Table("Afterwards")
    outcome.add(afterwards)
    record = {"bench": "clients", "hardware": machine.name(), **vars(arguments)}
    print(json.dumps({**record, "held": held.rows, "answers": table.rows, **afterwards}))
    sys.exit(not all(afterwards.values()))


if __name__ == "__main__":
    main()
