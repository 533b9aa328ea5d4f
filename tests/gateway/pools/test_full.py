"""Pools whose servers have no room: larger ones than a song asks servers."""

import asyncio
import dataclasses

import pytest

from gateway.contract import Loading, Ready
from gateway.pool import ASKED
from gateway.resume_state import ResumeState
from gateway.settings import GatewaySettings
from protocol.errors import EngineUnavailable, QueueFull
from tests.gateway.pools.network import Gateway, Network
from tests.gateway.songs import MODEL, REQUEST, ignore
from tests.gateway.test_models import until

WAITS = (30, 12, 45, 20, 7, 50, 25, 60)  # seconds, of each server


@pytest.fixture
def network() -> Network:
    network = Network(len(WAITS))
    for wait, server in zip(WAITS, network.servers.values(), strict=True):
        server.full_for = wait
    return network


def requests(gateway: Gateway) -> list[int]:
    """The songs that each server was asked for."""
    return [len(server.requests) for server in gateway.network.servers.values()]


async def test_a_full_pool_is_an_error_with_the_soonest_wait(gateway: Gateway) -> None:
    for _ in range(10):
        with pytest.raises(QueueFull, match="full; ask again in 7 s") as caught:
            await gateway.song()
        assert caught.value.retry_after == min(WAITS)
    assert sum(requests(gateway)) == 0


async def test_the_one_server_with_room_is_found(gateway: Gateway) -> None:
    *_, free = gateway.network.servers.values()
    free.full_for = 0
    for _ in range(10):
        assert await gateway.song()
    assert requests(gateway) == [0] * (len(WAITS) - 1) + [10]


async def test_songs_spread_over_the_servers_that_are_found(gateway: Gateway) -> None:
    free = [*gateway.network.servers.values()][-2:]
    for server in free:
        server.full_for = 0
    songs = [asyncio.create_task(gateway.song()) for _ in range(12)]
    await until(lambda: sum(gateway.running()) == 12)
    assert min(server.running for server in free) >= 4
    assert all(await asyncio.gather(*songs))


async def test_songs_that_are_refused_ask_all_servers_together(
    network: Network, settings: GatewaySettings
) -> None:
    rarely = dataclasses.replace(settings, resolve_interval=1000, survey_interval=1000)
    gateway = Gateway(network, rarely)
    songs = [gateway.song() for _ in range(50)]
    assert all(
        isinstance(error, QueueFull)
        for error in await asyncio.gather(*songs, return_exceptions=True)
    )
    asks = sum(server.asks for server in network.servers.values())
    assert asks <= 50 * ASKED + len(WAITS)
    await gateway.models.close()


async def test_a_song_that_broke_off_goes_on_in_a_full_pool(gateway: Gateway) -> None:
    first, *others = gateway.network.servers.values()
    first.full_for, first.cuts = 0, [EngineUnavailable("killed")]
    chunks = gateway.generation.generate(ResumeState(MODEL, REQUEST), ignore)
    await anext(chunks)
    first.down = True
    async for _ in chunks:
        pass
    assert sum(len(server.requests) for server in others) == 1


async def test_a_full_pool_is_ready(gateway: Gateway) -> None:
    assert isinstance(await gateway.models.status(MODEL), Ready)
    await gateway.models.ensure_ready(MODEL)


async def test_a_song_does_not_wait_for_a_server_that_loads(gateway: Gateway) -> None:
    """Otherwise a pool that grows would gather songs without a limit."""
    first, *_ = gateway.network.servers.values()
    first.loading[MODEL] = Loading()
    with pytest.raises(QueueFull):
        await gateway.song()


async def test_refusals_have_the_soonest_wait_of_the_pool(gateway: Gateway) -> None:
    """Servers may be full by the time that a song reaches them."""
    await gateway.models.catalogue()
    free = [*gateway.network.servers.values()][:3]
    for server in free:
        server.full_for, server.refusals = 0, [QueueFull("full", retry_after=40)]
    with pytest.raises(QueueFull) as caught:
        await gateway.song()
    assert caught.value.retry_after == 7
    assert sum(requests(gateway)) == 3
