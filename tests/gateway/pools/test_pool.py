"""Songs choose among several servers of a model, with a fake Triton for each."""

import asyncio
import random

import pytest

from gateway.pool import ASKED, sample
from gateway.settings import GatewaySettings
from protocol.errors import (
    EngineUnavailable,
    Internal,
    QueueFull,
    ServiceError,
    SharedMemoryFull,
    TritonUnavailable,
)
from tests.gateway.pools.network import Gateway, Network
from tests.gateway.songs import MODEL
from tests.gateway.test_models import until


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
    choices = [sample(servers, rng) for _ in range(1000)]
    assert all(len(set(choice)) == ASKED for choice in choices)
    assert {server for choice in choices for server in choice} == set(servers)
    assert sample([5], rng) == [5]


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


async def test_a_server_that_dies_unseen_is_not_shown_as_ready(gateway: Gateway) -> None:
    """No song asks it."""
    await until(lambda: gateway.shown('state="ready"') == "3.0")
    dead, *_ = gateway.network.servers.values()
    dead.down = True
    await until(lambda: gateway.shown('state="ready"') == "2.0")
    assert gateway.shown('state="unavailable"') == "1.0"
