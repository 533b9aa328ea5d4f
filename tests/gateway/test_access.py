"""API keys: a request without a key is refused, and each key has its own songs."""

import asyncio
import dataclasses
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient

from gateway.access import Access, read_keys
from gateway.settings import GatewaySettings
from protocol.errors import TooManySongs, Unauthorized
from tests.conftest import ROOT
from tests.gateway.conftest import running, serve
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.test_models import until
from tests.gateway.test_routes import GOOD, error

ANN, BOB = "ann-has-this-key-0", "Bob/has+that_key~1.=="
CHALLENGE = 'Bearer realm="audiocraft-service"'
KEYS = read_keys(f"ann:{ANN}\nbob:{BOB}")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
async def guarded(settings: GatewaySettings, triton: FakeTriton) -> AsyncIterator[TestClient]:
    """A gateway with keys, each of which may have two songs."""
    settings = dataclasses.replace(settings, api_keys=KEYS, max_songs_per_key=2)
    async with serve(settings, triton) as client:
        yield client


def test_keys_may_have_names_and_comments() -> None:
    keys = read_keys(f"# ours\n\n ann:{ANN} # in sales\n{BOB}\n")
    assert [key.name for key in keys] == ["ann", "key-2"]
    assert Access(keys, 1).caller(f"Bearer {BOB}") == "key-2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# empty\n", "there is no key in it; give one"),
        (f"{ANN} short", "key 2 is wrong; give KEY or NAME:KEY, a key of 16 letters and digits or"),
        (f"ann: {ANN}", "key 1 is wrong"),
        (f"a@b:{ANN}", "key 1 is wrong"),
        (f"clé:{ANN}", "key 1 is wrong"),
        (f"{ANN}é", "key 1 is wrong"),
        (f"{ANN} {BOB} x:{ANN}", "key 1 or its name is there twice"),
        (f"x:{ANN} x:{BOB}", "key 1 or its name is there twice"),
    ],
)
def test_the_error_of_a_wrong_list_shows_no_key(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        read_keys(text)
    assert ANN not in str(raised.value) and BOB not in str(raised.value)


def test_no_repr_shows_a_key() -> None:
    assert ANN not in repr(KEYS) and ANN not in repr(GatewaySettings(api_keys=KEYS))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_the_scheme_ignores_case(scheme: str) -> None:
    assert Access(KEYS, 1).caller(f"{scheme} {BOB}") == "bob"


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        *[
            (header, CHALLENGE)
            for header in (None, "", f"Basic {ANN}", ANN, f"Bearer{ANN}", "Bearer ")
        ],
        *[
            (f"Bearer {key}", f'{CHALLENGE}, error="invalid_token"')
            for key in (ANN[:-1], ANN + "x", ANN.upper(), f"{ANN} {BOB}", "\udcff", "ann")
        ],
    ],
)
def test_a_wrong_header_is_refused(header: str | None, challenge: str | None) -> None:
    with pytest.raises(Unauthorized) as raised:
        Access(KEYS, 1).caller(header)
    assert raised.value.headers == {"WWW-Authenticate": challenge}


def test_without_keys_every_request_is_allowed() -> None:
    access = Access((), 1)
    assert access.caller(None) is access.caller("Bearer whatever") is None
    with access.song(None), access.song(None):
        pass


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/models", "/metrics", "/generations/some-song"])
async def test_every_path_about_songs_needs_a_key(
    guarded: TestClient, method: str, path: str
) -> None:
    assert (await guarded.request(method, path)).status == 401
    assert (await guarded.request(method, path, headers=bearer(BOB))).status in (200, 404)


async def test_a_song_needs_a_key(guarded: TestClient, triton: FakeTriton) -> None:
    for headers, challenge in [
        ({}, CHALLENGE),
        (bearer("wrong"), f'{CHALLENGE}, error="invalid_token"'),
    ]:
        response = await guarded.post("/generate", json=GOOD, headers=headers)
        assert await error(response) == (401, "unauthorized", None)
        assert response.headers["WWW-Authenticate"] == challenge
    assert not triton.requests
    response = await guarded.post("/generate", json=GOOD, headers=bearer(ANN))
    assert response.status == 200


@pytest.mark.parametrize("path", ["/", "/app.js", "/healthz", "/readyz", "/openapi.json"])
async def test_page_probes_and_openapi_need_no_key(guarded: TestClient, path: str) -> None:
    assert (await guarded.get(path)).status != 401


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("PUT", "/generate", 405)]
)
async def test_a_missing_path_needs_no_key(
    guarded: TestClient, method: str, path: str, status: int
) -> None:
    assert (await guarded.request(method, path)).status == status


async def test_each_key_has_a_limit_of_songs_in_progress(
    guarded: TestClient, triton: FakeTriton
) -> None:
    triton.stuck = True
    songs = [
        asyncio.create_task(guarded.post("/generate", json=GOOD, headers=bearer(key)))
        for key in (ANN, ANN, BOB)
    ]
    await until(lambda: triton.running == 3)
    response = await guarded.post("/generate", json=GOOD, headers=bearer(ANN))
    assert await error(response) == (429, "too_many_songs", None)
    assert int(response.headers["Retry-After"]) > 0
    for song in songs:
        song.cancel()
    await until(lambda: not triton.running)
    triton.stuck = False
    assert (await guarded.post("/generate", json=GOOD, headers=bearer(ANN))).status == 200


async def test_a_refused_song_is_not_counted(guarded: TestClient) -> None:
    for _ in range(4):
        response = await guarded.post("/generate", json={}, headers=bearer(ANN))
        assert response.status == 422


def test_a_song_is_counted_until_its_end() -> None:
    access = Access(KEYS, 1)
    with access.song("ann"), pytest.raises(TooManySongs, match="1 songs under way"):
        access.song("ann").__enter__()
    with access.song("ann"):
        pass


async def test_a_key_finds_only_its_own_songs(guarded: TestClient, triton: FakeTriton) -> None:
    triton.stuck = True
    named, short = {"X-Request-Id": "the-same-name"}, {**GOOD, "duration": 1}
    anns = guarded.post("/generate", json=short, headers={**bearer(ANN), **named})
    songs = [asyncio.create_task(anns)]
    await until(lambda: triton.running)
    path = "/generations/the-same-name"
    assert (await guarded.get(path, headers=bearer(ANN))).status == 200
    for response in (
        await guarded.get(path, headers=bearer(BOB)),
        await guarded.patch(path, json={"prompt": "drums"}, headers=bearer(BOB)),
    ):
        assert await error(response) == (404, "not_found", None)
    # Each key has names of its own, so that a name does not reveal the song of another key.
    bobs = guarded.post("/generate", json=GOOD, headers={**bearer(BOB), **named})
    songs.append(asyncio.create_task(bobs))
    await until(lambda: triton.running == 2)
    for key, seconds in ((ANN, 1), (BOB, 2.5)):
        response = await guarded.get(path, headers=bearer(key))
        assert (await response.json())["total_seconds"] == seconds
    for song in songs:
        song.cancel()


async def test_a_client_without_a_key_gets_no_100_continue(guarded: TestClient) -> None:
    for key, first in ((ANN, b"HTTP/1.1 100 "), (f"{BOB}-wrong", b"HTTP/1.1 401 ")):
        reader, writer = await asyncio.open_connection(guarded.host, guarded.port)
        head = f"Host: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        writer.write(f"POST /generate HTTP/1.1\r\n{head}Expect: 100-continue\r\n".encode())
        writer.write(b"Content-Length: 4\r\n\r\n")
        assert (await reader.readline()).startswith(first)
        writer.close()


async def test_the_log_has_the_name_of_the_key_and_no_key(
    guarded: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for key in (ANN, f"{BOB}-wrong"):
        await (await guarded.get("/models", headers=bearer(key))).read()
    records = [record for record in caplog.records if record.name == "gateway.middleware"]
    assert [record.getMessage().split()[5] for record in records] == ["ann", "-"]
    assert ANN not in caplog.text and BOB not in caplog.text


def test_the_example_client_sends_its_key(
    settings: GatewaySettings, triton: FakeTriton, tmp_path: Path
) -> None:
    command = [sys.executable, "examples/listen.py", "jazz", "--out", str(tmp_path / "song.wav")]
    with running(dataclasses.replace(settings, api_keys=KEYS), triton) as address:
        for key, text in ((ANN, "seed"), (None, "This service asks for a key")):
            key_of_client = {"API_KEY": key} if key else {}
            done = subprocess.run(
                [*command, "--server", address],
                cwd=ROOT, env={**os.environ, **key_of_client}, capture_output=True, text=True,
                timeout=60,
            )  # fmt: skip
            assert (done.returncode == 0) == bool(key) and text in done.stderr
