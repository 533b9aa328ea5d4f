"""Songs that lose their server of a pool go on, on another one."""

import asyncio

import pytest

from gateway.resume_state import ResumeState
from protocol.errors import EngineUnavailable, ServiceError, TritonUnavailable, WeightsChanged
from tests.gateway.pools.network import Gateway
from tests.gateway.songs import MODEL, REQUEST, ignore
from tests.gateway.test_models import until


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
