"""CORS: requests of pages of other origins, as a browser sends them."""

import dataclasses

import pytest
from aiohttp import ClientResponse, MultipartWriter
from aiohttp.test_utils import TestClient

from gateway.access import read_keys
from gateway.settings import GatewaySettings
from tests.gateway.conftest import serve
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.test_routes import GOOD

OURS, THEIRS = {"Origin": "https://music.example"}, {"Origin": "https://evil.example"}
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-request-id",
}


def serve_to(*origins: str, settings: GatewaySettings) -> TestClient:
    """The gateway with keys; a browser sends none with a preflight request."""
    keys = read_keys("a-key-of-16-letters")
    settings = dataclasses.replace(settings, cors_origins=origins, api_keys=keys)
    return serve(settings, FakeTriton("musicgen-tiny"))


def cors_headers(response: ClientResponse) -> dict[str, str]:
    start = "Access-Control-"
    headers = response.headers.items()
    return {name.removeprefix(start): text for name, text in headers if name.startswith(start)}


async def test_cors_is_off_by_default(client: TestClient) -> None:
    response = await client.options("/generate", headers={**OURS, **PREFLIGHT})
    assert (response.status, cors_headers(response)) == (405, {})
    response = await client.get("/models", headers=OURS)
    assert cors_headers(response) == {} and "Vary" not in response.headers


async def test_a_named_origin_may_ask_and_read_headers(settings: GatewaySettings) -> None:
    origins = ("https://music.example", "http://localhost:3000")
    async with serve_to(*origins, settings=settings) as client:
        for origin in (OURS, {"Origin": "http://localhost:3000"}):
            response = await client.options("/generate", headers={**origin, **PREFLIGHT})
            assert response.status == 204
            allowed = cors_headers(response)
            assert allowed["Allow-Origin"] == origin["Origin"]
            assert allowed["Allow-Methods"] == "GET, PATCH, POST"
            assert allowed["Allow-Headers"] == "Authorization, Content-Type, X-Request-Id"
            key = {"Authorization": "Bearer a-key-of-16-letters"}
            response = await client.post("/generate", json=GOOD, headers={**origin, **key})
            assert response.status == 200
            assert cors_headers(response)["Allow-Origin"] == origin["Origin"]
            for name in ("X-Seed", "X-Model", "X-Revision", "X-Request-Id", "Content-Disposition"):
                assert name in cors_headers(response)["Expose-Headers"] and name in response.headers
            assert response.headers["Vary"] == "Origin"


async def test_a_named_origin_may_read_errors(settings: GatewaySettings) -> None:
    async with serve_to("https://music.example", settings=settings) as client:
        response = await client.post("/generate", json=GOOD, headers=OURS)
        assert response.status == 401
        assert cors_headers(response)["Allow-Origin"] == "https://music.example"


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://music.example", "https://music.example:444", "null",
     "https://music.example.evil.example", "https://MUSIC.example"],
)  # fmt: skip
async def test_another_origin_may_not_ask(settings: GatewaySettings, origin: str) -> None:
    async with serve_to("https://music.example", settings=settings) as client:
        headers = {"Origin": origin}
        response = await client.options("/generate", headers={**headers, **PREFLIGHT})
        assert (response.status, cors_headers(response)) == (405, {})
        response = await client.get("/healthz", headers=headers)
        assert (response.status, cors_headers(response)) == (200, {})
        assert response.headers["Vary"] == "Origin"  # for caches


async def test_any_origin_may_ask_but_without_cookies(settings: GatewaySettings) -> None:
    async with serve_to("*", settings=settings) as client:
        for response in (
            await client.options("/generate", headers={**THEIRS, **PREFLIGHT}),
            await client.get("/healthz", headers=THEIRS),
        ):
            assert cors_headers(response)["Allow-Origin"] == "*"
            assert "Allow-Credentials" not in cors_headers(response)


async def test_a_response_for_any_origin_is_always_the_same(settings: GatewaySettings) -> None:
    """A cache may then give one response to all origins."""
    async with serve_to("*", settings=settings) as client:
        with_origin, without = (
            await client.get("/healthz", headers=THEIRS),
            await client.get("/healthz"),
        )
        assert cors_headers(with_origin) == cors_headers(without)


async def test_a_form_of_a_foreign_page_is_refused(client: TestClient) -> None:
    host = f"{client.host}:{client.port}"
    for headers, status in (
        ({}, 422),  # no browser; the form lacks fields
        ({"Origin": f"http://{host}"}, 422),
        ({"Origin": "https://behind.proxy", "Sec-Fetch-Site": "same-origin"}, 422),
        ({"Origin": "https://music.example"}, 403),
        ({"Origin": "https://music.example", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 422),
    ):
        with MultipartWriter("form-data") as form:
            form.append("x").set_content_disposition("form-data", name="nothing")
        response = await client.post("/generate", data=form, headers=headers)
        assert response.status == status, headers


async def test_a_named_origin_may_send_a_form(settings: GatewaySettings) -> None:
    settings = dataclasses.replace(settings, cors_origins=("https://music.example",))
    async with serve(settings, FakeTriton("musicgen-tiny")) as client:
        headers = {**OURS, "Sec-Fetch-Site": "cross-site"}
        assert (await client.post("/generate", json=GOOD, headers=headers)).status == 200
        assert (await client.post("/generate", json=GOOD, headers=THEIRS)).status == 403


async def test_other_clients_than_browsers_need_no_origin(settings: GatewaySettings) -> None:
    async with serve_to("https://music.example", settings=settings) as client:
        assert cors_headers(await client.get("/healthz")) == {}
        assert (await client.options("/generate")).status == 405
