"""The names of servers in DNS."""

import asyncio
import socket
from collections.abc import Collection

import pytest

from gateway.addresses import resolve
from gateway.settings import GatewaySettings
from protocol.errors import EngineUnavailable
from tests.gateway.pools.network import Gateway, Network
from tests.gateway.test_models import until

GONE = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
SILENT = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


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


async def test_a_name_has_the_addresses_of_one_kind() -> None:
    assert await resolve("localhost", 8101) in ({"127.0.0.1:8101"}, {"[::1]:8101"})
    assert await resolve("::1", 8101) == {"[::1]:8101"}
