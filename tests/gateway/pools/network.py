"""Triton servers at addresses, with a gateway in front of them."""

import contextlib
import socket
from collections.abc import AsyncIterator, Collection

import numpy as np
from aiohttp.test_utils import TestClient

from gateway.app import create_app
from gateway.generation import Generation
from gateway.metrics import Metrics
from gateway.pools import Pools
from gateway.resume_state import ResumeState
from gateway.settings import GatewaySettings
from tests.gateway.conftest import Server
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.songs import MODEL, REQUEST, ignore, is_complete


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


@contextlib.asynccontextmanager
async def serving(network: Network, settings: GatewaySettings) -> AsyncIterator[TestClient]:
    async with TestClient(Server(create_app(settings, network.connect, network.resolve))) as client:
        yield client
