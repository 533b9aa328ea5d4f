"""Songs choose among several servers of a model, with a fake Triton for each."""

import asyncio
import contextlib
import dataclasses
import random
import socket
from collections.abc import AsyncIterator, Collection

import numpy as np
import pytest
from aiohttp.test_utils import TestClient

from gateway.app import create_app
from gateway.contract import Loading
from gateway.generation import Generation
from gateway.metrics import Metrics
from gateway.pool import ASKED, Pools, asked, resolve
from gateway.resume_state import ResumeState
from gateway.settings import GatewaySettings
from protocol.errors import (
    EngineUnavailable,
    Internal,
    ModelLoading,
    QueueFull,
    ServiceError,
    SharedMemoryFull,
    TritonUnavailable,
    WeightsChanged,
)
from tests.gateway.conftest import Server
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.test_generation import MODEL, REQUEST, ignore, is_complete
from tests.gateway.test_models import until

GONE = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
SILENT = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


class Network:
    """Servers at addresses, and a DNS that knows them by the name `pods`."""

    def __init__(self, count: int) -> None:
        self.servers: dict[str, FakeTriton] = {}
        self.names: Collection[str] | socket.gaierror = ()
        for _ in range(count):
            self.add()

    def add(self) -> FakeTriton:
        server, address = FakeTriton(MODEL, cached=(MODEL,)), f"10.0.0.{len(self.servers)}:8101"
        server.models.add(MODEL)
        server.slots, server.pause = 16, 0.01
        self.servers[address] = server
        self.names = [*self.servers]
        return server

    def connect(self, address: str) -> FakeTriton:
        return self.servers[address]

    async def resolve(self, host: str, port: int) -> Collection[str]:
        assert (host, port) == ("pods", 8101)
        if isinstance(self.names, socket.gaierror):
            raise self.names
        return self.names


class Gateway:
    """A gateway in front of that network."""

    def __init__(self, network: Network, settings: GatewaySettings) -> None:
        self.network = network
        self.metrics = Metrics()
        self.models = Pools(settings, self.metrics, network.connect, network.resolve)
        self.generation = Generation(self.models, settings, self.metrics)

    async def song(self) -> bool:
        """Whether the song is complete."""
        chunks = self.generation.generate(ResumeState(MODEL, REQUEST), ignore)
        return is_complete(np.concatenate([chunk.audio[0] async for chunk in chunks]))

    def running(self) -> list[int]:
        return [server.running for server in self.network.servers.values()]

    def shown(self, metric: str) -> str:
        """The value of a metric; empty before it has one."""
        lines = self.metrics.page().decode().splitlines()
        return next((line.rpartition(" ")[2] for line in lines if metric in line), "")


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    pools = {MODEL: (("pods", 8101),)}
    return dataclasses.replace(settings, triton_pools=pools, resolve_interval=0.02)


@pytest.fixture
def network() -> Network:
    return Network(3)


@pytest.fixture
async def gateway(network: Network, settings: GatewaySettings) -> AsyncIterator[Gateway]:
    gateway = Gateway(network, settings)
    yield gateway
    await gateway.models.close()


async def test_songs_at_the_same_time_are_spread_evenly(gateway: Gateway) -> None:
    songs = [asyncio.create_task(gateway.song()) for _ in range(12)]
    await until(lambda: sum(gateway.running()) == 12)
    assert gateway.running() == [4, 4, 4]
    assert all(await asyncio.gather(*songs))


async def test_songs_of_other_gateways_count(network: Network, settings: GatewaySettings) -> None:
    gateways = [Gateway(network, settings) for _ in range(4)]
    for server in network.servers.values():
        server.stuck = True
    songs = []
    for count in range(12):
        songs.append(asyncio.create_task(gateways[count % 4].song()))
        while sum(gateways[0].running()) <= count:
            await asyncio.sleep(0.005)
    assert gateways[0].running() == [4, 4, 4]
    for song in songs:
        song.cancel()
    await asyncio.gather(*songs, return_exceptions=True)
    await asyncio.gather(*(gateway.models.close() for gateway in gateways))


async def test_a_server_with_more_slots_gets_more_songs(gateway: Gateway) -> None:
    large, *_ = gateway.network.servers.values()
    large.slots = 32
    songs = [asyncio.create_task(gateway.song()) for _ in range(12)]
    await until(lambda: sum(gateway.running()) == 12)
    assert gateway.running() == [6, 3, 3]
    await asyncio.gather(*songs)


def test_a_song_asks_three_servers_at_random() -> None:
    servers, rng = range(100), random.Random(0)
    choices = [asked(servers, rng) for _ in range(1000)]
    assert all(len(set(choice)) == ASKED for choice in choices)
    assert {server for choice in choices for server in choice} == set(servers)
    assert asked([5], rng) == [5]


@pytest.mark.parametrize("lost", [EngineUnavailable("killed"), TritonUnavailable("gone")])
async def test_a_song_that_loses_its_server_goes_on_elsewhere(
    gateway: Gateway, lost: ServiceError
) -> None:
    song = asyncio.create_task(gateway.song())
    await until(lambda: sum(gateway.running()))
    first = next(server for server in gateway.network.servers.values() if server.running)
    first.cuts, first.down = [lost], True
    assert await song
    [other] = [one for one in gateway.network.servers.values() if one.requests and one is not first]
    [rest] = other.requests
    assert rest.start and rest.codes is not None
    assert rest.revision == first.revision and rest.arrival_time
    assert gateway.shown("gateway_resumes_total{") == "1.0"


async def test_a_song_never_goes_on_with_other_weights(gateway: Gateway) -> None:
    first, same, other = gateway.network.servers.values()
    same.down, other.songs[MODEL], other.revision = True, 100, "other"
    song = asyncio.create_task(gateway.song())
    await until(lambda: first.running)
    first.cuts, first.down = [TritonUnavailable("gone")], True
    await until(lambda: not first.running)
    await asyncio.sleep(0.05)
    same.down = False
    assert await song
    assert (len(same.requests), len(other.requests)) == (1, 0)
    assert gateway.shown('gateway_revisions{model="musicgen-small"}') == "2.0"


async def test_a_song_fails_if_no_server_has_its_weights(gateway: Gateway) -> None:
    chunks = gateway.generation.generate(ResumeState(MODEL, REQUEST), ignore)
    await anext(chunks)
    for server in gateway.network.servers.values():
        server.cuts, server.revision = [EngineUnavailable("killed")], "other"
    with pytest.raises(WeightsChanged):
        async for _ in chunks:
            pass


async def test_a_server_whose_name_goes_ends_its_songs_and_gets_no_more(gateway: Gateway) -> None:
    songs = [asyncio.create_task(gateway.song()) for _ in range(3)]
    await until(lambda: gateway.running() == [1, 1, 1])
    leaving, *_ = gateway.network.servers.values()
    gateway.network.names = [*gateway.network.servers][1:]
    await until(lambda: 'state="leaving"} 1.0' in gateway.metrics.page().decode())
    assert await asyncio.gather(*songs, *(gateway.song() for _ in range(6)))
    assert len(leaving.requests) == 1
    await until(lambda: leaving.closed)


async def test_a_server_whose_name_comes_gets_songs(gateway: Gateway) -> None:
    await gateway.song()
    newcomer = gateway.network.add()
    await until(lambda: gateway.shown('state="ready"') == "4.0")
    assert all(await asyncio.gather(*(gateway.song() for _ in range(20))))
    assert newcomer.requests


@pytest.mark.parametrize("names", [(), GONE, SILENT])
async def test_a_pool_without_servers_is_a_clear_error(
    network: Network, settings: GatewaySettings, names: Collection[str] | socket.gaierror
) -> None:
    network.names = names
    gateway = Gateway(network, settings)
    with pytest.raises(EngineUnavailable, match="No server of 'musicgen-small' runs; try again"):
        await gateway.song()
    assert gateway.shown('state="ready"') == "0.0"
    await gateway.models.close()


async def test_a_pool_keeps_its_servers_while_dns_is_silent(gateway: Gateway) -> None:
    assert await gateway.song()
    gateway.network.names = SILENT
    await asyncio.sleep(0.1)
    assert await gateway.song()
    gateway.network.names = GONE
    await until(lambda: gateway.shown('state="ready"') == "0.0")
    with pytest.raises(EngineUnavailable):
        await gateway.song()


@pytest.mark.parametrize("refusal", [QueueFull("full"), SharedMemoryFull("full")])
async def test_a_song_that_a_server_refuses_is_offered_to_others(
    gateway: Gateway, refusal: ServiceError
) -> None:
    first, second, third = gateway.network.servers.values()
    first.refusals = second.refusals = [refusal, refusal]
    first.songs[MODEL] = second.songs[MODEL] = 1
    third.songs[MODEL] = 2
    assert await gateway.song()
    assert [len(one.requests) for one in (first, second, third)] == [1, 1, 1]
    assert gateway.shown("gateway_refusals_total{") == "2.0"


async def test_full_servers_are_an_error_with_the_soonest_wait(gateway: Gateway) -> None:
    for wait, server in zip((30, 7, 12), gateway.network.servers.values(), strict=True):
        server.refusals = [QueueFull("32 songs wait already", retry_after=wait)]
    with pytest.raises(QueueFull) as caught:
        await gateway.song()
    assert caught.value.retry_after == 7


async def test_a_song_is_refused_by_three_servers_at_most(gateway: Gateway) -> None:
    for _ in range(3):
        gateway.network.add()
    await until(lambda: gateway.shown('state="ready"') == "6.0")
    for server in gateway.network.servers.values():
        server.refusals = [QueueFull("full")]
    with pytest.raises(QueueFull):
        await gateway.song()
    assert sum(len(server.requests) for server in gateway.network.servers.values()) == 3


async def test_a_server_that_never_answers_holds_up_one_song(gateway: Gateway) -> None:
    """It is left out after that."""
    assert await gateway.song()
    silent, *others = gateway.network.servers.values()
    silent.silent = True
    for server in others:
        server.songs[MODEL] = 1
    assert all(await asyncio.gather(*(gateway.song() for _ in range(3))))
    await until(lambda: gateway.shown('state="unavailable"') == "1.0")
    asks = silent.asks
    assert await gateway.song()
    assert silent.asks <= asks + 1  # by the look at servers that are away


@pytest.mark.parametrize(
    "error", [Internal("no Triton"), EngineUnavailable("garbage"), TritonUnavailable("away")]
)
async def test_a_server_in_error_gets_no_song(gateway: Gateway, error: ServiceError) -> None:
    broken, *_ = gateway.network.servers.values()
    broken.failing[MODEL] = error
    assert all(await asyncio.gather(*(gateway.song() for _ in range(6))))
    assert not broken.requests
    assert gateway.shown('state="unavailable"') == "1.0"
    broken.failing.clear()
    await until(lambda: gateway.shown('state="ready"') == "3.0")


async def test_a_song_waits_while_all_servers_load(
    gateway: Gateway, settings: GatewaySettings
) -> None:
    for server in gateway.network.servers.values():
        server.loading[MODEL] = Loading(5, 10)
    song = asyncio.create_task(gateway.song())
    await until(lambda: gateway.models.loading(MODEL) == Loading(5, 10))
    first, *_ = gateway.network.servers.values()
    first.loading.clear()
    assert await song
    assert first.requests


async def test_servers_that_load_for_too_long_are_an_error(
    network: Network, settings: GatewaySettings
) -> None:
    gateway = Gateway(network, dataclasses.replace(settings, load_timeout=0.1))
    for server in network.servers.values():
        server.loading[MODEL] = Loading()
    with pytest.raises(ModelLoading):
        await gateway.song()
    await gateway.models.close()


async def test_nothing_is_loaded_in_a_pool(gateway: Gateway) -> None:
    for server in gateway.network.servers.values():
        server.models.discard(MODEL)
    with pytest.raises(EngineUnavailable, match="is not loaded"):
        await gateway.song()
    assert not any(server.calls for server in gateway.network.servers.values())


@contextlib.asynccontextmanager
async def serving(network: Network, settings: GatewaySettings) -> AsyncIterator[TestClient]:
    async with TestClient(Server(create_app(settings, network.connect, network.resolve))) as client:
        yield client


async def test_the_models_are_those_of_all_pools(
    network: Network, settings: GatewaySettings
) -> None:
    """Not all that are in the folders of their servers."""
    for server in network.servers.values():
        server.variants += FakeTriton("musicgen-large").variants
    pools = {"musicgen-medium": (("pods", 8101),), **settings.triton_pools}
    async with (
        serving(network, dataclasses.replace(settings, triton_pools=pools)) as client,
        client.get("/models") as response,
    ):
        models = (await response.json())["models"]
    assert [(one["id"], one["state"]) for one in models] == [
        ("musicgen-medium", "unavailable"),
        (MODEL, "ready"),
    ]
    assert "is not loaded" in models[0]["reason"]
    assert models[1]["checkpoint"] == f"facebook/{MODEL}"


async def test_a_song_has_the_facts_of_its_model_or_none(
    network: Network, settings: GatewaySettings
) -> None:
    """Also in front of servers that have not answered since the gateway's start."""
    settings = dataclasses.replace(settings, resolve_interval=1000, watch_interval=1000)
    song, server = {"prompt": "x", "duration": 1, "model": MODEL}, network.add()
    network.names = list(network.servers)[-1:]
    server.down = True
    async with serving(network, dataclasses.replace(settings, default_model="other")) as client:
        async with client.post("/generate", json=song) as response:
            error = (await response.json())["error"]
            assert (response.status, error["code"]) == (503, "triton_unavailable")
            assert "No server of 'musicgen-small' has answered yet" in error["message"]
        server.down = False
        async with client.get("/models") as response:
            assert (await response.json())["models"][0]["state"] == "ready"
        async with client.post("/generate", json=song) as response:
            assert response.status == 200
            assert b"MIT" in await response.read()


async def test_a_change_reaches_the_server_of_the_song(
    network: Network, settings: GatewaySettings
) -> None:
    name = "the-song-that-changes"
    for server in network.servers.values():
        server.pause = 0.1
    async with serving(network, dataclasses.replace(settings, default_model=MODEL)) as client:
        song = {"prompt": "calm piano", "duration": 20}
        headers = {"X-Request-Id": name}
        async with client.post("/generate", json=song, headers=headers) as response:
            assert response.status == 200
            async with client.patch(f"/generations/{name}", json={"prompt": "drums"}) as changed:
                assert changed.status == 200
        singing = [server for server in network.servers.values() if server.requests]
        assert [server.changes for server in singing] == [[{"prompt": "drums"}]]


async def test_a_pool_without_servers_is_not_ready(
    network: Network, settings: GatewaySettings
) -> None:
    network.names = ()
    async with serving(network, dataclasses.replace(settings, default_model=MODEL)) as client:
        async with client.get("/readyz") as response:
            assert response.status == 503
            assert (await response.json())["error"]["code"] == "engine_unavailable"
        async with client.get("/healthz") as response:
            assert response.status == 200


async def test_a_name_has_the_addresses_of_one_kind() -> None:
    assert await resolve("localhost", 8101) in ({"127.0.0.1:8101"}, {"[::1]:8101"})
    assert await resolve("::1", 8101) == {"[::1]:8101"}
