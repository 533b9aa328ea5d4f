"""The HTTP API over real sockets, in front of a fake Triton."""

import asyncio
import dataclasses
import io
import json
import logging
import re
import wave
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientPayloadError
from aiohttp.test_utils import TestClient

from gateway.audio.formats import FORMATS
from gateway.audio.normalizer import MAX_SONGS_PER_CLIENT
from gateway.contract import Loading
from gateway.settings import GatewaySettings
from protocol.errors import (
    EngineUnavailable,
    Internal,
    InvalidField,
    QueueFull,
    ServiceError,
    WeightsMissing,
)
from tests.gateway.conftest import serve
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.test_models import until

GOOD = {"prompt": "slow piano", "duration": 2.5}
JSON = {"Content-Type": "application/json"}


async def error(response: Any) -> tuple[int, str, str | None]:
    """Status, code and field; the shape is always the same."""
    body = await response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "field", "limits"}
    assert body["error"]["message"]
    return response.status, body["error"]["code"], body["error"]["field"]


@pytest.mark.parametrize(("model", "channels"), [("musicgen-small", 1), ("small-stereo", 2)])
async def test_a_song_is_a_complete_wav(client: TestClient, model: str, channels: int) -> None:
    name = model if channels == 1 else f"facebook/musicgen-{model}"
    response = await client.post("/generate", json={**GOOD, "model": name, "seed": 7})
    body = await response.read()
    assert (response.status, response.content_type) == (200, "audio/wav")
    assert int(response.headers["Content-Length"]) == len(body)
    assert response.headers["X-Seed"] == "7"
    assert response.headers["X-Model"].startswith("musicgen-")
    assert response.headers["X-Revision"] == "0123456789ab"
    assert response.headers["X-Content-Source"].endswith("/trainedAlgorithmicMedia")
    assert "slow-piano.wav" in response.headers["Content-Disposition"]
    with wave.open(io.BytesIO(body)) as reader:
        assert reader.getparams()[:4] == (channels, 2, 32_000, 125 * 640)
        decoded = np.frombuffer(reader.readframes(80_000), "<i2").reshape(-1, channels)
    assert np.array_equal(
        decoded,
        np.rint(np.repeat(np.arange(125) / 20_000, 640)[:, None] * 32_767).repeat(channels, axis=1),
    )


async def test_a_request_without_a_model_gets_the_default(client: TestClient) -> None:
    response = await client.post("/generate", json=GOOD)
    assert response.headers["X-Model"] == "musicgen-tiny"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_a_wrong_method_gets_the_allowed_ones(client: TestClient, method: str) -> None:
    response = await client.request(method, "/generate")
    assert (response.status, response.headers["Allow"]) == (405, "POST")
    if method != "HEAD":
        assert (await error(response))[1] == "method_not_allowed"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", ["/nothing", "/nothing/", "/../app.py", "/%00%0a"])
async def test_an_unknown_path_is_not_found(client: TestClient, method: str, path: str) -> None:
    assert await error(await client.request(method, path)) == (404, "not_found", None)


async def test_a_slash_at_the_end_redirects(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    response = await client.post("/generate/?from=mail", json=GOOD, allow_redirects=False)
    assert (response.status, response.headers["Location"]) == (308, "/generate?from=mail")
    assert "POST /generate/ 308" in caplog.text
    assert (await client.post("/generate/", json=GOOD)).content_type == "audio/wav"


async def test_lines_of_accept_count_as_one(client: TestClient) -> None:
    headers = [("Accept", "text/html"), ("Accept", "audio/flac")]
    response = await client.post("/generate", json=GOOD, headers=headers)
    assert response.content_type == "audio/flac"


@pytest.mark.parametrize("path", ["/", "/app.js", "/healthz", "/models"])
async def test_get_and_head_agree(client: TestClient, path: str) -> None:
    get, head = await client.get(path), await client.head(path)
    assert (get.status, head.status) == (200, 200)
    assert get.headers["Content-Length"] == head.headers["Content-Length"]
    assert await head.read() == b""


@pytest.mark.parametrize("path", ["/", "/healthz", "/nothing"])
async def test_every_response_has_security_headers(client: TestClient, path: str) -> None:
    headers = (await client.get(path)).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "microphone=(self)" in headers["Permissions-Policy"]
    assert "aiohttp" not in headers["Server"]


async def test_models_are_listed_with_their_states(client: TestClient, triton: FakeTriton) -> None:
    await until(lambda: "musicgen-tiny" in triton.models)
    triton.failing["musicgen-small"] = WeightsMissing("no weights")
    await client.post("/generate", json={**GOOD, "model": "musicgen-small"})
    triton.loading["musicgen-medium"] = Loading(5, 10)
    triton.models.add("musicgen-medium")
    body = await (await client.get("/models")).json()
    assert (body["default"], body["max_duration"]) == ("musicgen-tiny", 300)
    models = {model.pop("id"): model for model in body["models"]}
    known = {
        "license": "MIT",
        "weights": "missing",
        "progress": None,
        "reason": None,
        "size": "300M",
        "download": 2_000_000_000,
        "channels": "mono",
        "melody": False,
    }
    assert models["musicgen-tiny"] == {
        **known, "checkpoint": "facebook/musicgen-tiny", "state": "ready"
    }  # fmt: skip
    assert models["musicgen-stereo-small"]["state"] == "unloaded"
    small, medium = models["musicgen-small"], models["musicgen-medium"]
    assert (small["state"], small["reason"]) == ("unavailable", "no weights")
    assert medium["state"] == "loading"
    assert medium["progress"] == {"bytes": 5, "total_bytes": 10}


@pytest.mark.parametrize(
    ("error_of_engine", "expected"),
    [
        (QueueFull("full"), (429, "queue_full", None)),
        (InvalidField("prompt: no", "prompt"), (422, "invalid_field", "prompt")),
        (EngineUnavailable("died"), (503, "engine_unavailable", None)),
        (Internal("failed"), (500, "internal", None)),
    ],
)
async def test_errors_of_the_engine_reach_the_client(
    settings: GatewaySettings, triton: FakeTriton, error_of_engine: ServiceError, expected: Any
) -> None:
    triton.song_error = error_of_engine
    async with serve(dataclasses.replace(settings, resume_timeout=0), triton) as client:
        response = await client.post("/generate", json=GOOD)
        assert await error(response) == expected
        assert ("Retry-After" in response.headers) == (response.status in (429, 503))


@pytest.mark.parametrize(
    ("queue_full", "seconds"),
    [(QueueFull("full", retry_after=36), "36"), (QueueFull("full"), "10")],
)
async def test_a_full_queue_says_when_to_try_again(
    client: TestClient, triton: FakeTriton, queue_full: QueueFull, seconds: str
) -> None:
    triton.song_error = queue_full
    response = await client.post("/generate", json=GOOD)
    assert (response.status, response.headers["Retry-After"]) == (429, seconds)


async def test_missing_weights_are_reported(client: TestClient, triton: FakeTriton) -> None:
    triton.failing["musicgen-small"] = WeightsMissing("no weights")
    response = await client.post("/generate", json={**GOOD, "model": "musicgen-small"})
    assert await error(response) == (503, "weights_missing", None)
    assert int(response.headers["Retry-After"]) > 0


async def test_a_triton_that_is_down_is_reported(client: TestClient, triton: FakeTriton) -> None:
    triton.down = True
    response = await client.post("/generate", json=GOOD)
    assert await error(response) == (503, "triton_unavailable", None)
    assert (await client.get("/healthz")).status == 200


@pytest.mark.parametrize("failure", [Internal("failed"), RuntimeError("a bug")])
@pytest.mark.parametrize("format", FORMATS)
async def test_an_error_in_mid_song_aborts_the_connection(
    client: TestClient, triton: FakeTriton, format: str, failure: Exception
) -> None:
    triton.cuts = [failure]
    response = await client.post("/generate", json={**GOOD, "format": format})
    assert response.status == 200
    with pytest.raises(ClientPayloadError):
        await response.read()
    assert triton.running == 0


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("format", FORMATS)
async def test_an_error_in_mid_song_resets_http_1_0(
    client: TestClient, triton: FakeTriton, format: str, fails: bool
) -> None:
    """In HTTP/1.0 an orderly close of the connection is the end of the song."""
    if fails:
        triton.cuts = [RuntimeError("a bug")]
    body = json.dumps({**GOOD, "format": format}).encode()
    reader, writer = await asyncio.open_connection(client.host, client.port)
    head = (
        f"POST /generate HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    writer.write(head.encode() + b"\r\n\r\n" + body)
    assert b" 200 " in await reader.readline()
    if fails:
        with pytest.raises(ConnectionResetError):
            await reader.read()
    else:
        assert len(await reader.read()) > 1_000
    writer.close()


async def test_a_client_that_stops_reading_is_disconnected(
    settings: GatewaySettings, triton: FakeTriton
) -> None:
    impatient = dataclasses.replace(settings, stall_timeout=0.3)
    async with serve(impatient, triton) as client:
        headers = {"X-Request-Id": "silent-client"}
        song = {**GOOD, "duration": 300}
        response = await client.post("/generate", json=song, headers=headers)
        await until(lambda: not triton.running)
        progress = await (await client.get("/generations/silent-client")).json()
        assert progress["state"] == "cancelled"
        response.close()


async def test_a_song_of_another_length_is_aborted(client: TestClient, triton: FakeTriton) -> None:
    triton.chunks = 2
    response = await client.post("/generate", json=GOOD)
    with pytest.raises(ClientPayloadError):
        await response.read()


@pytest.mark.parametrize("format", FORMATS)
async def test_a_song_is_sent_while_it_is_generated(
    client: TestClient, triton: FakeTriton, format: str
) -> None:
    triton.pause = 0.1
    response = await client.post("/generate", json={**GOOD, "duration": 10, "format": format})
    assert response.content_type.startswith("audio/")
    assert f'.{format}"' in response.headers["Content-Disposition"]
    assert triton.running
    await response.content.read(1)
    assert triton.running
    await response.read()
    assert not triton.running


@pytest.mark.parametrize("format", FORMATS)
async def test_the_same_seed_gives_the_same_bytes(
    client: TestClient, triton: FakeTriton, format: str
) -> None:
    body = {**GOOD, "seed": 3, "format": format}
    first, second = [await (await client.post("/generate", json=body)).read() for _ in range(2)]
    assert first == second
    assert [request.seed for request in triton.requests] == [3, 3]


async def test_a_silent_triton_that_is_down_is_reported(
    settings: GatewaySettings, triton: FakeTriton
) -> None:
    triton.stuck = True
    async with serve(dataclasses.replace(settings, resume_timeout=0.2), triton) as client:
        song = asyncio.create_task(client.post("/generate", json=GOOD))
        await until(lambda: triton.running)
        triton.down = True
        assert await error(await song) == (503, "triton_unavailable", None)
    assert triton.running == 0


async def test_a_song_that_takes_too_long_is_cancelled(
    settings: GatewaySettings, triton: FakeTriton
) -> None:
    triton.stuck = True
    async with serve(dataclasses.replace(settings, generate_timeout=0.35), triton) as client:
        response = await client.post("/generate", json={**GOOD, "duration": 30})
        assert await error(response) == (504, "too_slow", None)
    assert triton.running == 0


async def test_few_songs_with_a_loudness_are_made_at_a_time(
    client: TestClient, triton: FakeTriton
) -> None:
    """One more is refused before it costs Triton anything."""
    triton.stuck, loud = True, {**GOOD, "loudness": -14}
    songs = [
        asyncio.create_task(client.post("/generate", json=loud))
        for _ in range(MAX_SONGS_PER_CLIENT)
    ]
    await until(lambda: triton.running == MAX_SONGS_PER_CLIENT)
    response = await client.post("/generate", json=loud)
    assert await error(response) == (429, "queue_full", None)
    assert len(triton.requests) == MAX_SONGS_PER_CLIENT
    for song in songs:
        song.cancel()
    await until(lambda: not triton.running)
    triton.stuck = False
    assert (await client.post("/generate", json=loud)).status == 200


async def test_a_client_that_disconnects_cancels_its_song(
    client: TestClient, triton: FakeTriton
) -> None:
    triton.stuck = True
    song = asyncio.create_task(client.post("/generate", json=GOOD))
    await until(lambda: triton.running)
    song.cancel()
    await until(lambda: not triton.running)


async def test_the_log_has_each_request_and_no_prompt(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    response = await client.post("/generate", json={**GOOD, "prompt": "secret"})
    await response.read()
    await client.post("/generate", json={"prompt": {"secret": 1}})
    lines = [
        re.sub(r"\d+ ms", "0 ms", record.getMessage())
        for record in caplog.records
        if record.name == "gateway.middleware"
    ]
    assert lines == [
        "POST /generate 200 0 ms -",
        "POST /generate 422 0 ms - invalid_field 'prompt'",
    ]
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("failure", "code"),
    [(EngineUnavailable("died"), "engine_unavailable"), (RuntimeError("a bug"), "internal")],
)
async def test_a_song_that_broke_off_has_its_code_everywhere(
    settings: GatewaySettings,
    triton: FakeTriton,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
    code: str,
) -> None:
    caplog.set_level(logging.INFO)
    triton.cuts = [failure]
    headers = {"X-Request-Id": "broken-song"}
    async with serve(dataclasses.replace(settings, resume_timeout=0), triton) as client:
        async with client.post("/generate", json=GOOD, headers=headers) as response:
            triton.failing["musicgen-tiny"] = EngineUnavailable("died")
            with pytest.raises(ClientPayloadError):
                await response.read()
        progress = await (await client.get("/generations/broken-song")).json()
    assert (progress["state"], progress["error"]["code"]) == ("failed", code)
    records = [vars(record) for record in caplog.records if "code" in vars(record)]
    assert [(record["status"], record["code"]) for record in records] == [("broken_off", code)]
