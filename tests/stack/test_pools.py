"""A gateway in front of several real Tritons."""

import asyncio
import os
import shutil
import signal
import uuid
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient

from gateway.app import create_app
from gateway.settings import GatewaySettings
from tests.conftest import ROOT, Stack, eventually, repository_with
from tests.gateway.conftest import Server
from tests.prometheus import total
from tests.stack.client import model_status
from tests.stack.songs import samples

MODEL = "musicgen-tiny"
SONG: dict[str, Any] = {"prompt": "fast happy flute", "duration": 20, "seed": 3}
SECOND = 64_000  # bytes


def start(repository: Path) -> Stack:
    """Triton's container with musicgen-tiny."""
    return Stack(repository, {"LOAD_MODELS": MODEL}, program="supervisor.container")


@dataclass
class Pool:
    """A gateway, with the servers to which its pool's name resolves."""

    servers: list[Stack]
    client: TestClient = field(init=False)

    async def resolve(self, _host: str, _port: int) -> Collection[str]:
        return [f"127.0.0.1:{server.triton_grpc}" for server in self.servers]

    async def metric(self, name: str, **labels: str) -> float:
        async with self.client.get("/metrics") as page:
            return total(await page.text(), name, **labels)

    async def until_ready(self, count: int) -> None:
        async def ready() -> bool:
            return await self.metric("gateway_servers", state="ready") == count

        await eventually(ready)

    async def song(self, body: dict[str, Any] = SONG) -> bytes:
        async with self.client.post("/generate", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.read()

    async def running(self) -> list[int]:
        """The songs on each server."""
        statuses = [asyncio.to_thread(model_status, server) for server in self.servers]
        return [one["running"] + one["queued"] for one in await asyncio.gather(*statuses)]


@asynccontextmanager
async def pool_of(servers: list[Stack]) -> AsyncIterator[Pool]:
    pool = Pool(servers)
    pools = {MODEL: (("pods", 8101),)}
    settings = GatewaySettings(triton_pools=pools, default_model=MODEL, resolve_interval=0.2)
    app = create_app(settings, resolve=pool.resolve)
    async with TestClient(Server(app)) as pool.client:
        await pool.until_ready(len(servers))
        yield pool


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Stack]]:
    folder = tmp_path_factory.mktemp("pool")
    servers = [
        start(repository_with(folder / str(number) / "models", MODEL)) for number in range(3)
    ]
    yield servers
    for server in servers:
        server.stop()
        print(server.log.read_text()[-5_000:])


@pytest.fixture
async def pool(servers: list[Stack]) -> AsyncIterator[Pool]:
    async with pool_of([*servers]) as pool:
        yield pool


async def test_songs_at_the_same_time_are_spread_evenly(pool: Pool) -> None:
    songs = [asyncio.create_task(pool.song({**SONG, "duration": 300})) for _ in range(12)]

    async def all_run() -> bool:
        return sum(await pool.running()) == 12

    await eventually(all_run)
    running = await pool.running()
    for song in songs:
        song.cancel()
    assert max(running) - min(running) <= 1


@pytest.mark.parametrize(
    "victim", ["triton", "engine", pytest.param("stub", marks=pytest.mark.slow)]
)
async def test_a_song_goes_on_elsewhere_to_the_byte(pool: Pool, victim: str) -> None:
    """And the server is back afterwards."""
    whole = await pool.song()
    async with pool.client.post("/generate", json=SONG) as answer:
        wav = await answer.content.readexactly(2 * SECOND)
        lost = pool.servers[(await pool.running()).index(1)]
        os.kill(await asyncio.to_thread(getattr(lost, victim)), signal.SIGKILL)
        wav += await answer.content.readexactly(4 * SECOND)
        others = Pool([server for server in pool.servers if server is not lost])
        assert sum(await others.running()) == 1
        wav += await answer.content.read()
    assert wav == whole
    await pool.until_ready(3)


async def test_twelve_songs_survive_the_death_of_a_server(pool: Pool) -> None:
    body = {**SONG, "duration": 6}
    whole = await pool.song(body)
    songs = [asyncio.create_task(pool.song(body)) for _ in range(12)]

    async def all_run() -> bool:
        return sum(await pool.running()) == 12

    await eventually(all_run)
    os.kill(pool.servers[1].triton(), signal.SIGKILL)
    assert set(await asyncio.gather(*songs)) == {whole}
    assert await pool.metric("gateway_resumes_total") >= 4
    await pool.until_ready(3)


async def test_servers_come_and_go_in_mid_song(servers: list[Stack]) -> None:
    first, *others = servers
    async with pool_of([first]) as pool:
        whole = await pool.song()
        songs = [asyncio.create_task(pool.song()) for _ in range(4)]

        async def four_run() -> bool:
            return await pool.running() == [4]

        await eventually(four_run)
        pool.servers = others  # the first one is gone
        await pool.until_ready(2)
        assert await pool.metric("gateway_servers", state="leaving") == 1
        songs += [asyncio.create_task(pool.song()) for _ in range(2)]

        async def one_each() -> bool:
            return await pool.running() == [1, 1]

        await eventually(one_each)
        assert set(await asyncio.gather(*songs)) == {whole}


async def test_a_changed_song_goes_on_elsewhere_and_can_be_changed_again(pool: Pool) -> None:
    name = uuid.uuid4().hex
    headers = {"X-Request-Id": name}

    async def change(prompt: str) -> None:
        async with pool.client.patch(f"/generations/{name}", json={"prompt": prompt}) as answer:
            assert answer.status == 200, await answer.text()

    body = {**SONG, "duration": 8, "pace": "playback"}
    async with pool.client.post("/generate", json=body, headers=headers) as answer:
        wav = await answer.content.readexactly(SECOND)
        await change("slow sad piano")
        lost = pool.servers[(await pool.running()).index(1)]
        os.kill(lost.engine(), signal.SIGKILL)
        wav += await answer.content.readexactly(SECOND)
        await change("brass")
        wav += await answer.content.read()
    async with pool.client.get(f"/generations/{name}/receipt") as answer:
        receipt = await answer.json()
    assert [part["prompt"] for part in receipt["sections"]][1:] == ["slow sad piano", "brass"]
    again = await pool.song({**receipt, "pace": "fast"})
    assert np.array_equal(samples(again), samples(wav))
    await pool.until_ready(3)


@pytest.mark.slow
async def test_a_server_that_stops_hands_its_songs_over(
    servers: list[Stack], tmp_path: Path
) -> None:
    stopping = start(repository_with(tmp_path / "models", MODEL))
    body = {**SONG, "duration": 12}
    try:
        async with pool_of([stopping]) as pool:
            whole, paced = await pool.song(body), {**body, "pace": "playback"}
            async with pool.client.post("/generate", json=paced) as answer:
                wav = await answer.content.readexactly(SECOND)
                pool.servers.append(servers[0])
                await pool.until_ready(2)
                end = asyncio.create_task(asyncio.to_thread(stopping.stop))
                wav += await answer.content.read()
                await end
            assert await pool.metric("gateway_resumes_total") == 1
        assert np.array_equal(samples(wav), samples(whole))  # the tags have another pace
    finally:
        if stopping.process.poll() is None:
            stopping.stop()


@pytest.mark.slow
async def test_a_song_never_goes_on_with_other_weights(
    servers: list[Stack], tmp_path: Path, stereo_checkpoint: Path
) -> None:
    """It waits until its own server is back."""
    repository = repository_with(tmp_path / "models")
    shutil.copytree(stereo_checkpoint, repository / MODEL / "1")
    shutil.copy(ROOT / "model_repository" / MODEL / "config.pbtxt", repository / MODEL)
    shutil.copy(ROOT / "model_repository" / MODEL / "1" / "model.py", repository / MODEL / "1")
    other = start(repository)
    try:
        async with pool_of([servers[0]]) as pool:
            whole = await pool.song()
            async with pool.client.post("/generate", json=SONG) as answer:
                wav = await answer.content.readexactly(2 * SECOND)
                pool.servers.append(other)
                await pool.until_ready(2)
                os.kill(servers[0].engine(), signal.SIGKILL)
                wav += await answer.content.read()
            assert wav == whole
    finally:
        other.stop()
