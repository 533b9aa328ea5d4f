"""Songs that are changed while they play, over HTTP and over Triton."""

import asyncio
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from queue import Queue
from typing import Any

import aiohttp
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from tests.conftest import TIMEOUT, Stack
from tests.stack.client import status, tensors
from tests.stack.songs import code, samples, song

BODY: dict[str, Any] = {"model": "musicgen-tiny", "prompt": "calm piano", "seed": 5}
BLEND = [{"text": "fast drums", "weight": 2}, {"text": "brass", "weight": 1}]


class Playing:
    """A song that is being made."""

    def __init__(self, stack: Stack, session: aiohttp.ClientSession, name: str) -> None:
        self._url, self._session = f"{stack.url}/generations/{name}", session

    async def change(self, **values: Any) -> tuple[int, Any]:
        async with self._session.patch(f"{self._url}?wait=5", json=values) as answer:
            return answer.status, json.loads(await answer.read())

    async def receipt(self) -> Any:
        async with self._session.get(f"{self._url}/receipt") as answer:
            return await answer.json()


@asynccontextmanager
async def playing(stack: Stack, **body: Any) -> AsyncIterator[tuple[Playing, aiohttp.StreamReader]]:
    """A song, and its bytes behind the first."""
    name = uuid.uuid4().hex
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(3 * TIMEOUT)) as session,
        session.post(
            f"{stack.url}/generate", json={**BODY, **body}, headers={"X-Request-Id": name}
        ) as answer,
    ):
        assert answer.status == 200, await answer.text()
        yield Playing(stack, session, name), answer.content


async def test_the_receipt_of_a_steered_song_makes_it_again(stack: Stack) -> None:
    async with playing(stack, duration=8, pace="playback") as (live, content):
        wav = await content.readexactly(64_000)
        _, first = await live.change(prompt=BLEND, cfg_coef=4)
        wav += await content.readexactly(64_000)
        await asyncio.sleep(0.3)  # changes in quick succession are refused
        _, second = await live.change(prompt="sad strings", duration=1)
        wav += await content.read()
        receipt = await live.receipt()
    assert 1 < first["changed_at"] < second["changed_at"] < 8
    assert receipt == second["receipt"]
    assert [part["prompt"] for part in receipt["sections"]] == [
        "calm piano", BLEND, "sad strings", BLEND,
    ]  # fmt: skip
    assert sum(part["duration"] for part in receipt["sections"]) == pytest.approx(8)
    assert np.array_equal(await song(stack, {**receipt, "pace": "fast"}), samples(wav))


@pytest.mark.parametrize("victim", ["engine", pytest.param("stub", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "moment", ["at", *(pytest.param(each, marks=pytest.mark.slow) for each in ("before", "after"))]
)
async def test_a_steered_song_survives_a_death(stack: Stack, victim: str, moment: str) -> None:
    """Around the change. It is asked for while the engine dies, or is confirmed before."""

    def kill() -> None:
        os.kill(getattr(stack, victim)(), signal.SIGKILL)

    async with playing(stack, duration=10, pace="playback") as (live, content):
        wav = await content.readexactly(32_000)
        if moment == "before":
            kill()
        asking = asyncio.create_task(live.change(prompt=BLEND))
        if moment == "at":
            await asyncio.sleep(0.01)
            kill()
        status, answer = await asking
        assert status == 200, answer
        if moment == "after":
            kill()
        wav += await content.read()
        receipt = await live.receipt()
    assert receipt == answer["receipt"] and len(receipt["sections"]) == 2
    assert np.array_equal(await song(stack, {**receipt, "pace": "fast"}), samples(wav))


async def test_a_change_that_is_not_possible_is_refused(stack: Stack) -> None:
    async with playing(stack, duration=3, pace="playback") as (live, content):
        wrong: list[tuple[dict[str, Any], str | None]] = [
            ({}, None),
            ({"duration": 2}, None),
            ({"seed": 5}, "seed"),
            ({"prompt": " "}, "prompt"),
            ({"prompt": [{"text": "x", "weight": -1}]}, "prompt[0].weight"),
            ({"top_k": "x"}, "top_k"),
        ]
        for change, field in wrong:
            status, answer = await live.change(**change)
            assert status == 422
            assert code(json.dumps(answer).encode()) == ("invalid_field", field)
        answers = await asyncio.gather(*(live.change(cfg_coef=n) for n in range(20)))
        assert {status for status, _ in answers} == {200, 429}
        assert [answer["error"]["code"] for _, answer in answers if "error" in answer][:1] == [
            "too_many_changes"
        ]
        await content.read()
        status, answer = await live.change(prompt="too late")
        assert (status, answer["error"]["code"]) == (409, "song_ended")
    async with playing(stack, duration=3, loop=True) as (live, _):
        status, answer = await live.change(prompt="x")
        assert code(json.dumps(answer).encode()) == ("invalid_field", "loop")
    async with aiohttp.ClientSession() as session:
        unknown = Playing(stack, session, "unknown-song")
        status, answer = await unknown.change(prompt="x")
    assert (status, answer["error"]["code"]) == (404, "not_found")


async def test_steered_and_other_songs_do_not_disturb(stack: Stack) -> None:
    """A batch of eight: each is the song of its receipt alone."""

    async def one(number: int) -> tuple[Any, Any]:
        async with playing(stack, duration=3, seed=number) as (live, content):
            wav = await content.readexactly(10_000)
            if number % 2:
                await live.change(prompt=BLEND if number % 4 == 1 else "sad strings")
            wav += await content.read()
            return await live.receipt(), samples(wav)

    for receipt, pcm in await asyncio.gather(*(one(number) for number in range(8))):
        assert np.array_equal(await song(stack, receipt), pcm)


def test_triton_clients_change_a_song_by_its_sequence_id(stack: Stack) -> None:
    answers: Queue[Any] = Queue()
    inputs = {"PROMPT": "calm piano", "DURATION": 6, "SEED": 5, "PACE": "playback", "STREAM": True}
    change = {"CHANGE": json.dumps({"prompt": BLEND})}
    with (
        triton_grpc.InferenceServerClient(f"127.0.0.1:{stack.triton_grpc}") as client,
        triton_grpc.InferenceServerClient(f"127.0.0.1:{stack.triton_grpc}") as other,
    ):
        client.start_stream(lambda result, error: answers.put(error or result))
        other.start_stream(lambda result, error: changes.put(error or result))
        changes: Queue[Any] = Queue()
        client.async_stream_infer("musicgen-tiny", tensors(triton_grpc, inputs), sequence_id=77)
        received = [answers.get(timeout=TIMEOUT)]
        while not status(received[-1]).get("frames"):  # a change before the first is of the start
            received.append(answers.get(timeout=TIMEOUT))
        other.async_stream_infer("musicgen-tiny", tensors(triton_grpc, change), sequence_id=77)
        changed = changes.get(timeout=TIMEOUT)
        while status(received[-1])["state"] != "done":
            received.append(answers.get(timeout=TIMEOUT))
    frame = status(changed)["frame"]
    timeline = json.loads(changed.as_numpy("TIMELINE")[0])
    assert timeline[0]["duration"] == frame / 50 and timeline[1]["prompt"] == BLEND
    assert json.loads(received[-1].as_numpy("TIMELINE")[0]) == timeline
    assert {"state": "changed", "frame": frame} in map(status, received)
