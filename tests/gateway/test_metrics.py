"""The gateway's metrics, read by Prometheus' own parser."""

import asyncio

import pytest
from aiohttp import ClientPayloadError
from aiohttp.test_utils import TestClient
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Metrics
from musicgen_engine.metrics import COUNTERS, GAUGES
from protocol.errors import EngineUnavailable, Internal
from tests.conftest import ROOT
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.test_models import until
from tests.gateway.test_routes import GOOD
from tests.prometheus import total


async def value(client: TestClient, name: str, **labels: str) -> float:
    """The value of a metric; 0 if it was never counted."""
    response = await client.get("/metrics")
    assert response.status == 200
    return total(await response.text(), name, **labels)


def test_the_documents_name_every_metric() -> None:
    documents = (ROOT / "docs/http.md").read_text() + (ROOT / "docs/triton.md").read_text()
    families = text_string_to_metric_families(Metrics().page().decode())
    gateway = {family.name for family in families}
    engine = {name for name, _ in {**GAUGES, **COUNTERS}.values()}
    assert gateway and {name for name in gateway | engine if f"`{name}" not in documents} == set()


async def test_requests_are_counted_by_route_and_status(client: TestClient) -> None:
    for path in ("/models", "/nothing", "/generations/no-song", "/generations/no-other-song"):
        await client.get(path)
    expected = [("/models", "200"), ("none", "404")]
    for route, status in expected:
        assert await value(client, "gateway_requests_total", route=route, status=status) == 1
    route = "/generations/{id}"
    assert await value(client, "gateway_requests_total", route=route, status="404") == 2


async def test_audio_waits_and_resumes_are_counted(client: TestClient, triton: FakeTriton) -> None:
    triton.cuts = [EngineUnavailable("killed")]
    await (await client.post("/generate", json=GOOD)).read()
    assert await value(client, "gateway_audio_seconds_total", model="musicgen-tiny") == 2.5
    assert await value(client, "gateway_first_audio_seconds_count", model="musicgen-tiny") == 1
    assert await value(client, "gateway_resumes_total", model="musicgen-tiny") == 1
    assert await value(client, "gateway_songs_in_flight") == 0


async def test_audio_of_an_aborted_song_is_counted(client: TestClient, triton: FakeTriton) -> None:
    triton.cuts = [RuntimeError("a bug")]
    response = await client.post("/generate", json=GOOD)
    with pytest.raises(ClientPayloadError):
        await response.read()
    assert await value(client, "gateway_audio_seconds_total", model="musicgen-tiny") == 1
    assert await value(client, "gateway_requests_total", status="broken_off") == 1
    assert await value(client, "gateway_requests_total", status="gone") == 0


async def test_a_song_that_fails_again_is_no_resume(client: TestClient, triton: FakeTriton) -> None:
    triton.cuts = [EngineUnavailable("killed"), Internal("failed")]
    triton.chunks = 1
    response = await client.post("/generate", json=GOOD)
    with pytest.raises(ClientPayloadError):
        await response.read()
    assert await value(client, "gateway_resumes_total") == 0


async def test_songs_in_progress_are_counted(client: TestClient, triton: FakeTriton) -> None:
    triton.stuck = True
    song = asyncio.create_task(client.post("/generate", json=GOOD))
    await until(lambda: triton.running)
    assert await value(client, "gateway_songs_in_flight", model="musicgen-tiny") == 1
    song.cancel()
    await until(lambda: not triton.running)
    assert await value(client, "gateway_songs_in_flight", model="musicgen-tiny") == 0
    assert await value(client, "gateway_requests_total", route="/generate", status="gone") == 1
