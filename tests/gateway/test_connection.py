"""Connections: their number, their sizes, how clients end them, and what is no HTTP."""

import asyncio
import json
import logging
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from tests.conftest import ROOT, free_ports, until
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.test_main import GATEWAY, healthy
from tests.gateway.test_models import until as eventually
from tests.gateway.test_routes import GOOD

OPEN_FILES = 1_024  # a usual `ulimit -n`


@contextmanager
def gateway(log: Path) -> Iterator[int]:
    """The port of a gateway that may open OPEN_FILES."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))

    [port] = free_ports(1)
    command = [sys.executable, "-c", GATEWAY, str(port), "0.1", "0.5"]
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, preexec_fn=limit, stderr=file)
    try:
        until(lambda: healthy(port))
        yield port
    finally:
        process.kill()
        process.wait()


def connect(port: int, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 30)
    connection.sendall(data)
    return connection


def post(body: bytes, length: int | None = None, version: str = "1.1", extra: str = "") -> bytes:
    head = f"POST /generate HTTP/{version}\r\nHost: x\r\nContent-Type: application/json\r\n{extra}"
    return f"{head}Content-Length: {length or len(body)}\r\n\r\n".encode() + body


SONG = json.dumps({**GOOD, "seed": 1}).encode()
AUDIO = 125 * 640 * 2  # bytes


@pytest.mark.parametrize(
    "start", [b"", b"GET / HTTP/1.1\r\nX: y", post(b"{", 9_000)], ids=["nothing", "head", "body"]
)
def test_clients_that_send_no_whole_request_give_way(tmp_path: Path, start: bytes) -> None:
    log = tmp_path / "log"
    with gateway(log) as port, ExitStack() as connections:
        song = connections.enter_context(connect(port, post(SONG)))
        received = len(song.recv(1))
        silent = [connections.enter_context(connect(port, start)) for _ in range(OPEN_FILES)]
        assert healthy(port)
        with suppress(ConnectionResetError):
            assert silent[0].recv(1) == b""
        while received < AUDIO:
            part = song.recv(1 << 16)
            assert part
            received += len(part)
    assert len(log.read_text()) < 100_000


async def exchange(client: TestClient, data: bytes, half_close: bool = False) -> bytes:
    """All that comes back, until the connection ends."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(data)
    if half_close:
        writer.write_eof()
    received = await reader.read()
    writer.close()
    return received


async def flood(client: TestClient, *parts: bytes) -> None:
    """Send without an end, each part a little later."""
    _, writer = await asyncio.open_connection(client.host, client.port)
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.01)


def split(response: bytes) -> tuple[bytes, Any]:
    """The head and the JSON of a response."""
    head, _, body = response.partition(b"\r\n\r\n")
    return head, json.loads(body)


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET / HTTP/1.1\r\nHost: x\r\nno header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    ],
    ids=["text", "TLS", "header", "cookie", "path", "length"],
)
async def test_what_is_no_http_is_refused_in_json(
    client: TestClient, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    head, body = split(await exchange(client, data))
    assert head.startswith(b"HTTP/1.0 400 ") and b"aiohttp" not in head and b"Python" not in head
    limits = "its address is over 8 KB, or its headers are over 64 KB."
    assert body["error"].pop("message") == f"This is not HTTP/1.1, {limits}"
    assert body == {"error": {"code": "invalid_http", "field": None, "limits": {}}}
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.parametrize("path", ["/generate", "/encode", "/generations/some-song"])
async def test_a_chunk_that_is_none_is_refused_at_once(client: TestClient, path: str) -> None:
    """Also where the chunks before it were right, and their reader waits for it."""
    method = "PATCH" if "song" in path else "POST"
    kind = "audio/wav" if path == "/encode" else "application/json"
    start = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(f"{start}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n".encode())
    await asyncio.sleep(0.1)
    writer.write(b"no length\r\n")
    head, body = split(await asyncio.wait_for(reader.read(), 5))
    writer.close()
    assert head.split()[1] in (b"400", b"422")
    assert "is not encoded as its headers say" in body["error"]["message"]


async def test_cookies_of_other_pages_do_no_harm(client: TestClient) -> None:
    response = await client.get("/healthz", headers={"Cookie": "theirs=" + "x" * 60_000})
    assert response.status == 200


async def test_a_head_without_an_end_ends_the_connection(client: TestClient) -> None:
    header = b"X: " + b"y" * 4_000 + b"\r\n"
    with pytest.raises(ConnectionError):
        await flood(client, b"GET / HTTP/1.1\r\nHost: x\r\n", *[header] * 100)


async def test_requests_behind_a_song_are_bounded(client: TestClient, triton: FakeTriton) -> None:
    triton.stuck = True
    with pytest.raises(ConnectionError):
        await flood(client, post(SONG), *[post(b" " * 60_000)] * 100)
    await eventually(lambda: not triton.running)


@pytest.mark.parametrize("path", ["/generate", "/models", "/", "/nothing"])
async def test_an_unknown_expectation_is_refused(client: TestClient, path: str) -> None:
    request = f"POST {path} HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\nContent-Length: 9\r\n\r\n"
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(request.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 417 ") and b"aiohttp" not in head
    assert b'"expectation_failed"' in await reader.read(200)
    writer.close()


@pytest.mark.parametrize(("version", "continues"), [("1.1", True), ("1.0", False)])
async def test_only_http_1_1_is_asked_to_continue(
    client: TestClient, version: str, continues: bool
) -> None:
    response = await exchange(
        client, post(SONG, version=version, extra="Expect: 100-continue\r\nConnection: close\r\n")
    )
    assert response.startswith(b"HTTP/1.1 100 Continue\r\n\r\n") == continues
    assert b" 200 OK\r\n" in response


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_client_may_close_its_half_and_wait(
    client: TestClient, triton: FakeTriton, version: str
) -> None:
    triton.pause = 0.3
    response = await exchange(client, post(SONG, version=version), half_close=True)
    assert b" 200 OK\r\n" in response and len(response) > AUDIO
    answer = await exchange(client, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", half_close=True)
    assert b'{"status": "ok"}' in answer


async def test_half_a_request_before_the_end_is_no_request(client: TestClient) -> None:
    assert await exchange(client, post(b"{", 9_000), half_close=True) == b""
    assert await exchange(client, b"GET / HT", half_close=True) == b""


async def test_a_client_that_leaves_the_queue_is_noticed(
    client: TestClient, triton: FakeTriton
) -> None:
    triton.stuck = True
    _, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(post(SONG))
    await eventually(lambda: triton.running)
    writer.close()
    await eventually(lambda: not triton.running)
