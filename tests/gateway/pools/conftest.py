import dataclasses
from collections.abc import AsyncIterator

import pytest

from gateway.settings import GatewaySettings
from tests.gateway.pools.network import Gateway, Network
from tests.gateway.songs import MODEL


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    pools = {MODEL: (("pods", 8101),)}
    return dataclasses.replace(
        settings, triton_pools=pools, resolve_interval=0.02, survey_interval=0
    )


@pytest.fixture
def network() -> Network:
    return Network(3)


@pytest.fixture
async def gateway(network: Network, settings: GatewaySettings) -> AsyncIterator[Gateway]:
    gateway = Gateway(network, settings)
    yield gateway
    await gateway.models.close()
