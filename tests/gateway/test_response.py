"""Responses whose content comes while they are sent."""

import asyncio
import dataclasses
import logging
from contextlib import suppress

import pytest
from aiohttp import ClientConnectionResetError, web
from aiohttp.test_utils import TestClient, make_mocked_request

from gateway.app import create_app
from gateway.response import complete_or_aborted, finish, send
from gateway.settings import GatewaySettings
from tests.gateway.conftest import Server
from tests.gateway.fake_triton import FakeTriton


@pytest.mark.parametrize(
    ("error", "logged"),
    [(ClientConnectionResetError("Cannot write"), False), (RuntimeError("a bug"), True)],
)
async def test_a_client_that_leaves_is_no_error(
    caplog: pytest.LogCaptureFixture, error: Exception, logged: bool
) -> None:
    request, response = make_mocked_request("POST", "/generate"), web.StreamResponse()
    await response.prepare(request)

    def fail() -> None:
        raise error

    with suppress(asyncio.CancelledError), complete_or_aborted(request, response):
        fail()
    assert bool([line for line in caplog.records if line.levelno == logging.ERROR]) == logged


@pytest.mark.parametrize("part", ["middle", "end"])
async def test_a_client_that_does_not_read_is_left(
    settings: GatewaySettings, triton: FakeTriton, part: str
) -> None:
    """Also at the very end, where the client has room for all but a little."""
    left = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        try:
            with complete_or_aborted(request, response):
                await response.prepare(request)
                assert request.transport
                request.transport.write(bytes(2**25))  # more than the system's buffers hold
                while part == "middle":
                    await send(request, response, bytes(2**17))
                await finish(request, response)
        finally:
            left.set()
        return response

    app = create_app(dataclasses.replace(settings, stall_timeout=0.1), lambda _: triton)
    app.router.add_get("/song", handler)
    async with TestClient(Server(app)) as client:
        _, writer = await asyncio.open_connection(client.host, client.port, limit=1)
        writer.write(b"GET /song HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(left.wait(), 10)
        writer.close()
