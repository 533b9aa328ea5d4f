"""Pages of other origins, as a browser asks for them."""

import dataclasses

import pytest
from aiohttp import ClientResponse, MultipartWriter
from aiohttp.test_utils import TestClient

from gateway.access import read_keys
from gateway.settings import Settings
from tests.gateway.conftest import serve
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.test_routes import GOOD

OURS, THEIRS = {"Origin": "https://music.example"}, {"Origin": "https://evil.example"}
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-request-id",
}


def serve_to(*origins: str, settings: Settings) -> TestClient:
    """Keys are needed, but a browser shows none when it asks first."""
    keys = read_keys("a-key-of-16-letters")
    settings = dataclasses.replace(settings, cors_origins=origins, api_keys=keys)
    return serve(settings, FakeTriton("musicgen-tiny"))


def told(answer: ClientResponse) -> dict[str, str]:
    start = "Access-Control-"
    headers = answer.headers.items()
    return {name.removeprefix(start): text for name, text in headers if name.startswith(start)}


async def test_it_is_off_unless_set(client: TestClient) -> None:
    answer = await client.options("/generate", headers={**OURS, **PREFLIGHT})
    assert (answer.status, told(answer)) == (405, {})
    answer = await client.get("/models", headers=OURS)
    assert told(answer) == {} and "Vary" not in answer.headers


async def test_an_origin_that_is_named_may_ask_and_see_the_headers(settings: Settings) -> None:
    async with serve_to("https://music.example", "http://localhost:3000", settings=settings) as it:
        for origin in (OURS, {"Origin": "http://localhost:3000"}):
            answer = await it.options("/generate", headers={**origin, **PREFLIGHT})
            assert answer.status == 204
            allowed = told(answer)
            assert allowed["Allow-Origin"] == origin["Origin"]
            assert allowed["Allow-Methods"] == "GET, POST"
            assert allowed["Allow-Headers"] == "Authorization, Content-Type, X-Request-Id"
            key = {"Authorization": "Bearer a-key-of-16-letters"}
            answer = await it.post("/generate", json=GOOD, headers={**origin, **key})
            assert answer.status == 200
            assert told(answer)["Allow-Origin"] == origin["Origin"]
            for name in ("X-Seed", "X-Model", "X-Revision", "X-Request-Id", "Content-Disposition"):
                assert name in told(answer)["Expose-Headers"] and name in answer.headers
            assert answer.headers["Vary"] == "Origin"


async def test_errors_can_be_read_too(settings: Settings) -> None:
    async with serve_to("https://music.example", settings=settings) as it:
        answer = await it.post("/generate", json=GOOD, headers=OURS)
        assert answer.status == 401
        assert told(answer)["Allow-Origin"] == "https://music.example"


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://music.example", "https://music.example:444", "null",
     "https://music.example.evil.example", "https://MUSIC.example"],
)  # fmt: skip
async def test_another_origin_is_told_nothing(settings: Settings, origin: str) -> None:
    async with serve_to("https://music.example", settings=settings) as it:
        headers = {"Origin": origin}
        answer = await it.options("/generate", headers={**headers, **PREFLIGHT})
        assert (answer.status, told(answer)) == (405, {})
        answer = await it.get("/healthz", headers=headers)
        assert (answer.status, told(answer)) == (200, {})
        assert answer.headers["Vary"] == "Origin"  # or a cache gives ours what it kept for theirs


async def test_any_origin_may_be_let_in_but_never_with_cookies(settings: Settings) -> None:
    async with serve_to("*", settings=settings) as it:
        for answer in (
            await it.options("/generate", headers={**THEIRS, **PREFLIGHT}),
            await it.get("/healthz", headers=THEIRS),
        ):
            assert told(answer)["Allow-Origin"] == "*"
            assert "Allow-Credentials" not in told(answer)


async def test_an_answer_for_any_origin_is_the_same_for_all(settings: Settings) -> None:
    """So that a cache may give to one what another got."""
    async with serve_to("*", settings=settings) as it:
        with_origin, without = await it.get("/healthz", headers=THEIRS), await it.get("/healthz")
        assert told(with_origin) == told(without)


async def test_a_form_from_another_origins_page_makes_no_song(client: TestClient) -> None:
    host = f"{client.host}:{client.port}"
    for headers, status in (
        ({}, 422),  # no browser; and what the form lacks is told
        ({"Origin": f"http://{host}"}, 422),
        ({"Origin": "https://behind.proxy", "Sec-Fetch-Site": "same-origin"}, 422),
        ({"Origin": "https://music.example"}, 403),
        ({"Origin": "https://music.example", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "null"}, 403),
    ):
        with MultipartWriter("form-data") as form:
            form.append("x").set_content_disposition("form-data", name="nothing")
        answer = await client.post("/generate", data=form, headers=headers)
        assert answer.status == status, headers


async def test_an_origin_that_is_named_may_send_a_form(settings: Settings) -> None:
    settings = dataclasses.replace(settings, cors_origins=("https://music.example",))
    async with serve(settings, FakeTriton("musicgen-tiny")) as it:
        headers = {**OURS, "Sec-Fetch-Site": "cross-site"}
        assert (await it.post("/generate", json=GOOD, headers=headers)).status == 200
        assert (await it.post("/generate", json=GOOD, headers=THEIRS)).status == 403


async def test_who_is_no_browser_is_answered_as_ever(settings: Settings) -> None:
    async with serve_to("https://music.example", settings=settings) as it:
        assert told(await it.get("/healthz")) == {}
        assert (await it.options("/generate")).status == 405
