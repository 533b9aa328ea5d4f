"""Who names a request can follow it."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from gateway.contract import Loading, Progress
from gateway.errors import GatewayError, NotFound
from gateway.progress import KEPT, Job, Jobs, name_of
from gateway.settings import Settings
from tests.gateway.conftest import serve
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.test_models import until
from tests.gateway.test_routes import GOOD, error

NAME = "my-song-1"
HEADERS = {"X-Request-Id": NAME}


async def told(client: TestClient) -> Any:
    answer = await client.get(f"/generations/{NAME}")
    assert answer.status == 200
    return await answer.json()


async def states(client: TestClient) -> list[Any]:
    """All events until the end."""
    headers = {"Accept": "text/event-stream"}
    async with client.get(f"/generations/{NAME}", headers=headers) as answer:
        assert answer.content_type == "text/event-stream"
        lines = (await answer.text()).split("\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line not in ("", ":")]


async def test_a_song_is_followed_from_queue_to_end(client: TestClient, triton: FakeTriton) -> None:
    triton.pause = 0.1
    song = asyncio.create_task(client.post("/generate", json=GOOD, headers=HEADERS))
    await until(lambda: triton.running)
    events = await states(client)
    seen = [event["state"] for event in events]
    assert list(dict.fromkeys(seen)) == ["queued", "generating", "done"]
    assert events[0]["position"] == 1
    assert [event["seconds"] for event in events] == sorted(event["seconds"] for event in events)
    assert all(event["total_seconds"] == 2.5 for event in events)
    middle = next(event for event in events if event["steps_per_second"])
    assert middle["steps_per_second"] > 10 and 0 <= middle["seconds_left"] < 1
    assert events[-1] == await told(client)
    assert (await song).headers["X-Request-Id"] == NAME


@pytest.fixture
async def waiting(settings: Settings, triton: FakeTriton) -> AsyncIterator[TestClient]:
    """Where a song is asked for of which nothing comes."""
    triton.stuck = True
    settings = dataclasses.replace(settings, heartbeat_interval=0.05)
    async with serve(settings, triton) as client:
        song = asyncio.create_task(client.post("/generate", json=GOOD, headers=HEADERS))
        await until(lambda: triton.running)
        yield client
        song.cancel()


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_progress_is_nothing_to_be_kept_and_head_does_not_wait_for_its_end(
    waiting: TestClient, accept: str
) -> None:
    path, headers = f"/generations/{NAME}", {"Accept": accept}
    head = await asyncio.wait_for(waiting.head(path, headers=headers), 2)
    async with waiting.get(path, headers=headers) as get:
        for answer in (head, get):
            assert answer.status == 200
            assert answer.content_type == accept
            assert answer.headers["Cache-Control"] == "no-store"


async def test_where_nothing_changes_a_comment_comes_now_and_then(waiting: TestClient) -> None:
    headers = {"Accept": "text/event-stream"}
    async with waiting.get(f"/generations/{NAME}", headers=headers) as events:
        lines = [await asyncio.wait_for(events.content.readline(), 2) for _ in range(6)]
        assert lines[0].startswith(b"data: {")
        assert lines[1:] == [b"\n", b":\n", b"\n", b":\n", b"\n"]


async def test_a_model_that_loads_is_told_with_its_bytes(
    client: TestClient, triton: FakeTriton
) -> None:
    triton.loading["musicgen-small"] = Loading(5, 10)
    body = {**GOOD, "model": "musicgen-small"}
    song = asyncio.create_task(client.post("/generate", json=body, headers=HEADERS))
    await until(lambda: "musicgen-small" in triton.held)
    progress = await told(client)
    assert (progress["state"], progress["model"]) == ("loading", "musicgen-small")
    assert progress["download"] == {"bytes": 5, "total_bytes": 10}
    triton.loading.clear()
    assert (await song).status == 200


async def test_what_failed_and_what_was_left_are_told(
    client: TestClient, triton: FakeTriton
) -> None:
    triton.song_error = GatewayError("failed")
    await client.post("/generate", json=GOOD, headers=HEADERS)
    progress = await told(client)
    assert (progress["state"], progress["error"]["code"]) == ("failed", "internal")


async def test_a_song_nobody_waits_for_is_cancelled(client: TestClient, triton: FakeTriton) -> None:
    triton.stuck = True
    song = asyncio.create_task(client.post("/generate", json=GOOD, headers=HEADERS))
    await until(lambda: triton.running)
    song.cancel()
    await until(lambda: not triton.running)
    assert (await told(client))["state"] == "cancelled"


async def test_a_name_is_one_songs_alone_until_its_end(
    client: TestClient, triton: FakeTriton
) -> None:
    triton.stuck = True
    song = asyncio.create_task(client.post("/generate", json=GOOD, headers=HEADERS))
    await until(lambda: triton.running)
    answer = await client.post("/generate", json=GOOD, headers=HEADERS)
    assert await error(answer) == (422, "invalid_field", None)
    song.cancel()
    await until(lambda: not triton.running)
    triton.stuck = False
    assert (await client.post("/generate", json=GOOD, headers=HEADERS)).status == 200


async def test_an_unknown_name_is_not_found(client: TestClient) -> None:
    assert await error(await client.get("/generations/nobody")) == (404, "not_found", None)


@pytest.mark.parametrize("name", ["short", "x" * 65, "with space", "été-été-été", "a/b/c/d/e"])
def test_a_name_is_plain_and_bounded(name: str) -> None:
    assert name_of(name) is None
    assert name_of("x" * 64)


def test_a_song_that_goes_on_does_not_go_backwards() -> None:
    job = Job("tiny", 100)
    for progress in (Progress("generating", frames=60), Progress("loading"), Progress("queued", 1)):
        job.hear(progress)
        assert job.snapshot()["seconds"] == 1.2
    assert job.snapshot()["seconds_left"] is None


def test_an_ended_song_is_forgotten_after_a_minute_and_nothing_else_is() -> None:
    now = 0.0
    jobs = Jobs(lambda: now)
    with jobs.follow("first-song", Job("tiny", 50)) as job:
        now = 1000.0
        assert jobs.find("first-song") is job
        job.hear(Progress("done", frames=50))
    now += KEPT - 1
    assert jobs.find("first-song").snapshot()["state"] == "done"
    now += 1
    with pytest.raises(NotFound):
        jobs.find("first-song")
    with jobs.follow("first-song", Job("tiny", 50)):
        pass


def test_a_name_that_is_given_again_before_the_last_byte_is_the_new_songs() -> None:
    """One is made before it is heard; its end must not end what is told of the next."""
    now = 0.0
    jobs = Jobs(lambda: now)
    first, second = Job("tiny", 50), Job("tiny", 50)
    with ExitStack() as other:
        with jobs.follow("first-song", first):
            first.hear(Progress("done", frames=50))
            other.enter_context(jobs.follow("first-song", second))
        now += KEPT
        assert jobs.find("first-song") is second
    now += KEPT
    with pytest.raises(NotFound):
        jobs.find("first-song")
