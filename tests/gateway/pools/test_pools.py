"""The models of pools, over HTTP and while their servers load."""

import asyncio
import dataclasses

import pytest

from gateway.contract import Loading
from gateway.settings import GatewaySettings
from protocol.errors import EngineUnavailable, ModelLoading
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.pools.network import Gateway, Network, serving
from tests.gateway.songs import MODEL
from tests.gateway.test_models import until


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
