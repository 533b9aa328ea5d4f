"""The body of a request: JSON, and how large and slow it may be."""

import asyncio
import dataclasses
import io
import json
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from gateway.body import MIN_RATE
from gateway.settings import GatewaySettings
from tests.gateway.audio.test_reader import file, tone
from tests.gateway.conftest import serve
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.test_form import form
from tests.gateway.test_routes import GOOD, JSON, error


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"no json", (400, "invalid_json", None)),
        (b'{"prompt": "\xff"}', (400, "invalid_json", None)),
        (b"[]", (422, "invalid_field", None)),
        (b"{}", (422, "invalid_field", "prompt")),
        (b'{"prompt": "\\ud800"}', (422, "invalid_field", "prompt")),
        (b'{"prompt": "x", "\\ud800": 1}', (422, "invalid_field", "\ud800")),
        (b'{"prompt": "x", "duration": NaN}', (422, "invalid_field", "duration")),
        (b'{"prompt": "x", "model": "bach"}', (404, "unknown_model", "model")),
        (b'{"prompt": "x", "model": "musicgen"}', (404, "unknown_model", "model")),
        (b'{"prompt": "x", "model": "../musicgen-tiny"}', (404, "unknown_model", "model")),
    ],
)
async def test_bad_json_is_refused_by_name(
    client: TestClient, body: bytes, expected: tuple[int, str, str | None]
) -> None:
    response = await client.post("/generate", data=body, headers=JSON)
    assert await error(response) == expected


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"],
)
async def test_only_json_in_utf8_is_accepted(client: TestClient, content_type: str) -> None:
    response = await client.post("/generate", data=b"{}", headers={"Content-Type": content_type})
    assert await error(response) == (415, "unsupported_media_type", None)


async def test_a_field_in_the_address_is_refused(client: TestClient) -> None:
    response = await client.post("/generate?seed=5", json=GOOD)
    assert await error(response) == (422, "invalid_field", "seed")
    assert (await client.post("/generate?from=mail", json=GOOD)).status == 200


async def test_a_content_type_may_name_its_charset(client: TestClient) -> None:
    headers = {"Content-Type": "application/json; charset=UTF-8"}
    response = await client.post("/generate", data=json.dumps(GOOD), headers=headers)
    assert response.status == 200


@pytest.mark.parametrize("is_form", [False, True])
async def test_the_chroma_of_the_longest_song_is_a_body(
    client: TestClient, triton: FakeTriton, is_form: bool
) -> None:
    """199 windows begin in an hour, each 18 s after the last; musicgen-tiny-melody has 1,501
    columns."""
    chroma = [[column % 12 for column in range(1_501)]] * 199
    body = {"prompt": "piano", "duration": 2, "chroma": chroma}
    texts: dict[str, Any] = {
        name: value if name == "prompt" else json.dumps(value) for name, value in body.items()
    }
    kind: dict[str, Any] = {"data": form(file(tone(1)), **texts)} if is_form else {"json": body}
    response = await client.post("/generate", **kind)
    assert response.status == 200
    [sent] = triton.requests
    assert sent.chroma is not None and sent.chroma.tolist() == chroma
    response.close()


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_over_a_megabyte_is_too_large(client: TestClient, chunked: bool) -> None:
    async def parts() -> Any:
        for _ in range(20):
            yield b" " * 60_000

    data = parts() if chunked else io.BytesIO(b" " * 1_200_000)
    response = await client.post("/generate", data=data, headers=JSON)
    assert await error(response) == (413, "body_too_large", None)


@pytest.mark.parametrize(
    ("content_type", "code"),
    [("application/json", "invalid_json"), ("multipart/form-data; boundary=x", "invalid_form")],
)
async def test_a_body_in_another_encoding_is_invalid(
    client: TestClient, caplog: pytest.LogCaptureFixture, content_type: str, code: str
) -> None:
    headers = {"Content-Type": content_type, "Content-Encoding": "gzip"}
    response = await client.post("/generate", data=b"not gzip", headers=headers)
    assert await error(response) == (400, code, None)


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x"])
async def test_a_body_that_comes_too_slowly_is_refused(
    settings: GatewaySettings, triton: FakeTriton, content_type: str
) -> None:
    async def drops() -> Any:
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    async with serve(dataclasses.replace(settings, pace_interval=0.3), triton) as client:
        headers = {"Content-Type": content_type}
        response = await client.post("/generate", data=drops(), headers=headers)
        assert await error(response) == (408, "body_too_slow", None)


async def test_a_body_that_takes_too_long_is_refused(
    settings: GatewaySettings, triton: FakeTriton
) -> None:
    async def stream() -> Any:
        yield b"--x\r\nContent-Disposition: form-data; name=audio\r\n\r\n"
        while True:
            yield b" " * MIN_RATE
            await asyncio.sleep(0.05)

    impatient = dataclasses.replace(settings, pace_interval=0.1, stall_timeout=0.5)
    async with serve(impatient, triton) as client:
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        response = await client.post("/generate", data=stream(), headers=headers)
        assert await error(response) == (408, "body_too_slow", None)
