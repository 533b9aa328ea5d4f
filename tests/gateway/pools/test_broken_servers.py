"""Addresses of a pool where no server of this service answers."""

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import grpc.aio
import pytest
from tritonclient.grpc import service_pb2_grpc

from gateway.metrics import Metrics
from gateway.pool import Pool
from gateway.settings import GatewaySettings
from gateway.triton import TritonClient
from protocol import tls
from tests.certificate import certificate
from tests.conftest import free_ports
from tests.gateway.songs import MODEL
from tests.gateway.test_triton import FakeServer, status


@asynccontextmanager
async def triton(certificates: Path | None = None) -> AsyncIterator[int]:
    """The port of a server that is ready."""
    server, running = FakeServer(), grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(server, running)
    server.responses = [
        status(
            state="ready", slots=1, revision="01", fallback=None, queued=0, running=0, full_for=0
        )
    ]
    if certificates is None:
        port = running.add_insecure_port("127.0.0.1:0")
    else:
        authority, key, certificate = tls.contents(certificates)
        credentials = grpc.ssl_server_credentials([(key, certificate)], authority, True)
        port = running.add_secure_port("127.0.0.1:0", credentials)
    await running.start()
    yield port
    await running.stop(None)


@asynccontextmanager
async def other_program(answer: bytes) -> AsyncIterator[int]:
    """The port of a program that sends this to any caller, or nothing."""
    writers = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(answer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield int(server.sockets[0].getsockname()[1])
    server.close()
    for writer in writers:
        writer.close()


@asynccontextmanager
async def nothing() -> AsyncIterator[int]:
    yield free_ports(1)[0]


BROKEN: dict[str, Callable[[], AbstractAsyncContextManager[int]]] = {
    "closed": nothing,
    "silent": partial(other_program, b""),
    "http": partial(other_program, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    "noise": partial(other_program, bytes(range(256)) * 100),
}


@asynccontextmanager
async def pool(
    settings: GatewaySettings, *ports: int, certificates: Path | None = None
) -> AsyncIterator[Pool]:
    addresses = [f"127.0.0.1:{port}" for port in ports]

    async def resolve(_host: str, _port: int) -> list[str]:
        return addresses

    settings = dataclasses.replace(settings, resolve_interval=1000)
    connect = partial(TritonClient, generate_timeout=10, admin_key="", certificates=certificates)
    opened = Pool(MODEL, [("pods", 8101)], settings, Metrics(), connect, resolve)
    yield opened
    await opened.close()


@pytest.mark.parametrize("kind", BROKEN)
async def test_songs_go_to_the_server_that_answers(
    kind: str, settings: GatewaySettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with BROKEN[kind]() as broken, triton() as good, pool(settings, broken, good) as both:
        for _ in range(3):
            assert (await both.choose()).address == f"127.0.0.1:{good}"
    [line] = [one for one in caplog.messages if "takes no songs" in one]
    assert f"127.0.0.1:{broken} takes no songs: [triton_unavailable]" in line
    assert line.endswith(")")  # the reason, as gRPC gives it


@pytest.mark.parametrize("secure", ["gateway", "server"])
async def test_tls_at_one_end_alone_takes_no_songs(
    secure: str, settings: GatewaySettings, tmp_path: Path
) -> None:
    own = certificate(tmp_path)
    servers = triton(own if secure == "server" else None)
    certificates = own if secure == "gateway" else None
    async with servers as port, pool(settings, port, certificates=certificates) as one:
        status = await one.status()
        assert "does not answer" in str(status)
    async with triton(own) as port, pool(settings, port, certificates=own) as one:
        assert (await one.choose()).is_ready
