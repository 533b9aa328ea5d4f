import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web_runner import BaseRunner

from gateway.app import create_app
from gateway.connection import Runner
from gateway.generation import Generation
from gateway.metrics import Metrics
from gateway.models import Models
from gateway.settings import GatewaySettings
from tests.gateway.fake_triton import FakeTriton


@pytest.fixture
def settings(tmp_path: Path) -> GatewaySettings:
    """The defaults with short intervals, and a small page."""
    (tmp_path / "index.html").write_text("<title>page</title>")
    (tmp_path / "app.js").write_text("1")
    return GatewaySettings(
        web=tmp_path,
        silence_timeout=0.3,
        poll_interval=0.01,
        watch_interval=0.02,
        retry_interval=0.05,
    )


@pytest.fixture
def triton() -> FakeTriton:
    return FakeTriton("musicgen-medium", "musicgen-small", "musicgen-stereo-small", "musicgen-tiny")


@pytest.fixture
async def models(triton: FakeTriton, settings: GatewaySettings) -> AsyncIterator[Models]:
    models = Models(triton, settings)
    yield models
    await models.close()


@pytest.fixture
def generation(triton: FakeTriton, models: Models, settings: GatewaySettings) -> Generation:
    return Generation(models, settings, Metrics())


@pytest.fixture
async def client(settings: GatewaySettings, triton: FakeTriton) -> AsyncIterator[TestClient]:
    async with serve(settings, triton) as client:
        yield client


def serve(settings: GatewaySettings, triton: FakeTriton) -> TestClient:
    """A client of the gateway in front of `triton`; start it with `async with`."""
    return TestClient(Server(create_app(settings, lambda _: triton)))


class Server(TestServer):
    async def _make_runner(self, **options: Any) -> BaseRunner:
        return Runner(self.app)


@contextmanager
def running(settings: GatewaySettings, triton: FakeTriton) -> Iterator[str]:
    """The address of a gateway in a thread of its own, for clients that block."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    server = Server(create_app(settings, lambda _: triton))
    asyncio.run_coroutine_threadsafe(server.start_server(), loop).result()
    try:
        yield str(server.make_url("/")).removesuffix("/")
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
