"""The progress of songs, which clients follow by name."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from gateway.contract import Loading, Progress
from gateway.progress import KEPT, Job, Jobs, name_of
from gateway.settings import GatewaySettings
from protocol.errors import Internal, NotFound
from tests.gateway.conftest import serve
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.test_models import until
from tests.gateway.test_routes import GOOD, error

NAME = "my-song-1"
HEADERS = {"X-Request-Id": NAME}


async def progress(client: TestClient) -> Any:
    response = await client.get(f"/generations/{NAME}")
    assert response.status == 200
    return await response.json()


async def events_of(client: TestClient) -> list[Any]:
    """All events until the end."""
    headers = {"Accept": "text/event-stream"}
    async with client.get(f"/generations/{NAME}", headers=headers) as response:
        assert response.content_type == "text/event-stream"
        lines = (await response.text()).split("\n\n")
    return [json.loads(line.partition("data: ")[2]) for line in lines if line not in ("", ":")]


async def test_a_song_is_there_from_its_headers_on(client: TestClient, triton: FakeTriton) -> None:
    triton.pause = 0.1
    go = asyncio.Event()

    async def body() -> Any:
        yield b'{"prompt": '
        await go.wait()
        yield b'"jazz", "duration": 1}'

    headers = {**HEADERS, "Content-Type": "application/json"}
    song = asyncio.create_task(client.post("/generate", data=body(), headers=headers))
    response = await client.get(f"/generations/{NAME}?wait=5")
    now = await response.json()
    assert (now["state"], now["model"], now["total_seconds"]) == ("receiving", None, None)
    early = await client.get(f"/generations/{NAME}/receipt")
    assert await error(early) == (404, "not_found", None)
    receipt = asyncio.create_task(client.get(f"/generations/{NAME}/receipt?wait=5"))
    change = client.patch(f"/generations/{NAME}?wait=5", json={"prompt": "drums"})
    changed = asyncio.create_task(change)
    await asyncio.sleep(0.1)
    go.set()
    assert (await (await receipt).json())["prompt"] == "jazz"
    assert (await changed).status == 200
    assert (await song).status == 200
    assert (await progress(client))["state"] == "done"


async def test_a_song_with_a_loudness_is_done_once(client: TestClient, triton: FakeTriton) -> None:
    triton.pause = 0.05
    song = asyncio.create_task(
        client.post("/generate", json={**GOOD, "loudness": -14}, headers=HEADERS)
    )
    await until(lambda: triton.running)
    states = [event["state"] for event in await events_of(client)]
    response = await song
    assert states[-1] == "done" and states.count("done") == 1
    assert (response.status, triton.running) == (200, 0)
    assert float(response.headers["X-Loudness"]) == -70  # the fake is as good as silent


def test_a_song_with_a_loudness_is_measured_before_it_is_done() -> None:
    job = Job(to_measure=True)
    job.on_progress(Progress("done"))
    assert (job.snapshot()["state"], job.ended) == ("measuring", False)
    job.finish()
    assert (job.snapshot()["state"], job.ended) == ("done", True)


@pytest.mark.parametrize(
    ("wait", "expected"),
    [("0.01", (404, "not_found", None)), ("6", (422, "invalid_field", "wait")),
     ("long", (422, "invalid_field", "wait"))],
)  # fmt: skip
async def test_a_wait_for_a_song_has_an_end(
    client: TestClient, wait: str, expected: tuple[int, str, str | None]
) -> None:
    assert await error(await client.get(f"/generations/{NAME}?wait={wait}")) == expected


async def test_a_misspelt_wait_is_refused(client: TestClient) -> None:
    response = await client.get(f"/generations/{NAME}?wiat=5")
    assert await error(response) == (422, "invalid_field", "wiat")


async def test_an_event_source_stops_after_the_last_event(client: TestClient) -> None:
    await (await client.post("/generate", json=GOOD, headers=HEADERS)).read()
    headers = {"Accept": "text/event-stream"}
    text = await (await client.get(f"/generations/{NAME}", headers=headers)).text()
    last = text.removeprefix("id: ").partition("\n")[0]
    for id, status in ((last, 204), ("0", 200)):
        known = {**headers, "Last-Event-ID": id}
        response = await client.get(f"/generations/{NAME}", headers=known)
        assert response.status == status


async def test_events_follow_a_song_from_queue_to_end(
    client: TestClient, triton: FakeTriton
) -> None:
    triton.pause = 0.1
    song = asyncio.create_task(client.post("/generate", json=GOOD, headers=HEADERS))
    await until(lambda: triton.running)
    events = await events_of(client)
    states = [event["state"] for event in events]
    assert list(dict.fromkeys(states)) == ["queued", "generating", "done"]
    assert events[0]["position"] == 1
    assert [event["seconds"] for event in events] == sorted(event["seconds"] for event in events)
    assert all(event["total_seconds"] == 2.5 for event in events)
    middle = next(event for event in events if event["steps_per_second"])
    assert middle["steps_per_second"] > 10 and 0 <= middle["seconds_left"] < 1
    assert events[-1] == await progress(client)
    assert (await song).headers["X-Request-Id"] == NAME


@pytest.fixture
async def waiting(settings: GatewaySettings, triton: FakeTriton) -> AsyncIterator[TestClient]:
    """A gateway with a song of which nothing comes."""
    triton.stuck = True
    settings = dataclasses.replace(settings, heartbeat_interval=0.05)
    async with serve(settings, triton) as client:
        song = asyncio.create_task(client.post("/generate", json=GOOD, headers=HEADERS))
        await until(lambda: triton.running)
        yield client
        song.cancel()


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_progress_is_not_cached_and_head_ends_at_once(
    waiting: TestClient, accept: str
) -> None:
    path, headers = f"/generations/{NAME}", {"Accept": accept}
    head = await waiting.head(path, headers=headers)
    async with waiting.get(path, headers=headers) as get:
        for response in (head, get):
            assert response.status == 200
            assert response.content_type == accept
            assert response.headers["Cache-Control"] == "no-store"


async def test_a_comment_comes_while_nothing_changes(waiting: TestClient) -> None:
    headers = {"Accept": "text/event-stream"}
    async with waiting.get(f"/generations/{NAME}", headers=headers) as events:
        lines = [await events.content.readline() for _ in range(7)]
        assert lines[0].startswith(b"id: ") and lines[1].startswith(b"data: {")
        assert lines[2:] == [b"\n", b":\n", b"\n", b":\n", b"\n"]


async def test_a_loading_model_shows_its_download(client: TestClient, triton: FakeTriton) -> None:
    triton.loading["musicgen-small"] = Loading(5, 10)
    body = {**GOOD, "model": "musicgen-small"}
    song = asyncio.create_task(client.post("/generate", json=body, headers=HEADERS))
    await until(lambda: "musicgen-small" in triton.models)
    now = await progress(client)
    assert (now["state"], now["model"]) == ("loading", "musicgen-small")
    assert now["download"] == {"bytes": 5, "total_bytes": 10}
    triton.loading.clear()
    assert (await song).status == 200


async def test_a_failed_song_shows_its_error(client: TestClient, triton: FakeTriton) -> None:
    triton.song_error = Internal("failed")
    await client.post("/generate", json=GOOD, headers=HEADERS)
    now = await progress(client)
    assert (now["state"], now["error"]["code"]) == ("failed", "internal")


async def test_a_closed_connection_cancels_the_song(client: TestClient, triton: FakeTriton) -> None:
    triton.stuck = True
    song = asyncio.create_task(client.post("/generate", json=GOOD, headers=HEADERS))
    await until(lambda: triton.running)
    song.cancel()
    await until(lambda: not triton.running)
    assert (await progress(client))["state"] == "cancelled"


async def test_a_name_belongs_to_one_song_until_its_end(
    client: TestClient, triton: FakeTriton
) -> None:
    triton.stuck = True
    song = asyncio.create_task(client.post("/generate", json=GOOD, headers=HEADERS))
    await until(lambda: triton.running)
    response = await client.post("/generate", json=GOOD, headers=HEADERS)
    assert await error(response) == (422, "invalid_field", None)
    song.cancel()
    await until(lambda: not triton.running)
    triton.stuck = False
    assert (await client.post("/generate", json=GOOD, headers=HEADERS)).status == 200


async def test_an_unknown_name_is_not_found(client: TestClient) -> None:
    assert await error(await client.get("/generations/no-song")) == (404, "not_found", None)


@pytest.mark.parametrize("name", ["short", "x" * 65, "with space", "été-été-été", "a/b/c/d/e"])
def test_a_name_is_plain_and_bounded(name: str) -> None:
    assert name_of(name) is None
    assert name_of("x" * 64)


def test_a_resumed_song_keeps_its_progress() -> None:
    job = Job("tiny", 100)
    for report in (Progress("generating", frames=60), Progress("loading"), Progress("queued", 1)):
        job.on_progress(report)
        assert job.snapshot()["seconds"] == 1.2
    assert job.snapshot()["seconds_left"] is None


def test_only_an_ended_song_is_forgotten_after_a_minute() -> None:
    now = 0.0
    jobs = Jobs(lambda: now)
    with jobs.follow("first-song", Job("tiny", 50)) as job:
        now = 1000.0
        assert jobs.find("first-song") is job
        job.on_progress(Progress("done", frames=50))
    now += KEPT - 1
    assert jobs.find("first-song").snapshot()["state"] == "done"
    now += 1
    with pytest.raises(NotFound):
        jobs.find("first-song")
    with jobs.follow("first-song", Job("tiny", 50)):
        pass


def test_a_reused_name_belongs_to_the_new_song() -> None:
    """A song is done before its last byte is sent. Its end must not end the next song's name."""
    now = 0.0
    jobs = Jobs(lambda: now)
    first, second = Job("tiny", 50), Job("tiny", 50)
    with ExitStack() as other:
        with jobs.follow("first-song", first):
            first.on_progress(Progress("done", frames=50))
            other.enter_context(jobs.follow("first-song", second))
        now += KEPT
        assert jobs.find("first-song") is second
    now += KEPT
    with pytest.raises(NotFound):
        jobs.find("first-song")
