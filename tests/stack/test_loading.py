"""Models are loaded on request, from the hub or a folder, and unloaded when room is needed."""

import asyncio
import json
import secrets
import shutil
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from tritonclient.http import InferenceServerClient

from gateway.triton import TritonClient
from protocol.request import GenerationRequest
from tests.conftest import ADMIN, ADMIN_KEY, TIMEOUT, Stack, eventually, until
from tests.fake_hub import FakeHub
from tests.stack.songs import GOOD, code, post, samples, song
from tests.stack.test_generate import FOREVER, until_busy


@pytest.fixture(scope="module", autouse=True)
def default_model_returns(stack: Stack) -> Iterator[None]:
    """Later tests send requests for musicgen-tiny to Triton, which loads no model on request."""
    yield
    asyncio.run(song(stack, {**GOOD, "model": "musicgen-tiny"}))


def loaded(stack: Stack) -> set[str]:
    models = stack.get("/models")[1]["models"]
    return {model["id"] for model in models if model["state"] == "ready"}


async def test_the_default_model_is_local_and_nothing_is_downloaded(
    stack: Stack, hub: FakeHub
) -> None:
    assert not hub.requests
    assert stack.get("/models")[1]["default"] == "musicgen-tiny"
    small = stack.model("musicgen-small")
    assert (small["state"], small["weights"]) == ("unloaded", "missing")
    assert small["license"] == "CC-BY-NC-4.0"


async def test_weights_are_downloaded_once_with_progress(stack: Stack, hub: FakeHub) -> None:
    wanted = {**GOOD, "model": "facebook/musicgen-small-stereo"}  # another spelling in use
    seen = set()

    async def progress() -> bool:
        entry = await asyncio.to_thread(stack.model, "musicgen-stereo-small")
        if entry["state"] == "loading" and entry["progress"]["total_bytes"]:
            seen.add((entry["progress"]["bytes"], entry["progress"]["total_bytes"]))
        return len({done for done, _ in seen}) > 2

    hub.bytes_per_second = 1_000_000
    try:
        songs = [asyncio.create_task(post(stack, wanted)) for _ in range(3)]
        await eventually(progress)
    finally:
        hub.bytes_per_second = None
    for status, _, body in await asyncio.gather(*songs):
        assert status == 200, body
        assert samples(body).shape == (32_000, 2)
    assert all(done <= total for done, total in seen)
    assert stack.model("musicgen-stereo-small")["weights"] == "cached"
    downloads = [path for path in hub.downloads if path.endswith("/state_dict.bin")]
    assert len(downloads) == 1  # concurrent first requests share one load


async def test_a_model_in_use_is_not_unloaded(stack: Stack) -> None:
    for name in ("musicgen-tiny", "musicgen-stereo-small"):
        await song(stack, {**GOOD, "model": name})
    long = asyncio.create_task(post(stack, {**FOREVER, "model": "musicgen-tiny"}))
    await until_busy(stack, 1)  # two requests at once may arrive in any order
    await song(stack, {**GOOD, "model": "my-music"})
    assert not long.done()
    assert loaded(stack) == {"musicgen-tiny", "my-music"}  # though the other was used later
    long.cancel()


async def test_the_least_recently_used_idle_model_makes_room(stack: Stack) -> None:
    for name in ("my-music", "musicgen-tiny", "musicgen-stereo-small"):
        await song(stack, {**GOOD, "model": name})
    assert loaded(stack) == {"musicgen-tiny", "musicgen-stereo-small"}


async def leave(call: Coroutine[Any, Any, Any], seconds: float) -> None:
    task = asyncio.create_task(call)
    await asyncio.wait({task}, timeout=seconds)
    task.cancel()
    await asyncio.wait({task})


async def test_a_model_unloads_though_its_callers_left(stack: Stack) -> None:
    """They leave at every moment, also when the end of their response is on its way."""
    await song(stack, {**GOOD, "model": "my-music"})
    client = TritonClient(f"127.0.0.1:{stack.triton_grpc}", TIMEOUT, ADMIN_KEY)

    async def short_song() -> None:
        request = GenerationRequest("slow piano", 5)
        async for _ in client.generate("my-music", request, secrets.randbits(32)):
            pass

    for number in range(200):
        await leave(client.status("my-music"), number / 20_000)
        if not number % 4:
            await leave(short_song(), number / 1_000)
    await client.unload("my-music")
    await client.close()
    with InferenceServerClient(f"127.0.0.1:{stack.triton_http}") as triton:
        index = triton.get_model_repository_index(ADMIN)
    assert {model["state"] for model in index if model["name"] == "my-music"} == {"UNAVAILABLE"}


async def test_a_model_added_to_a_running_service_is_served(stack: Stack) -> None:
    late = stack.repository / "late"
    shutil.copytree(stack.repository / "my-music", late)
    assert (await song(stack, {**GOOD, "model": "late"})).shape == (32_000, 2)
    assert stack.model("late")["weights"] == "bundled"
    shutil.rmtree(late)


async def test_missing_weights_are_an_error_at_each_request(stack: Stack, hub: FakeHub) -> None:
    for _ in range(2):
        status, headers, body = await post(stack, {**GOOD, "model": "musicgen-small"})
        assert (status, code(body)[0]) == (503, "weights_missing")
        assert "facebook/musicgen-small" in json.loads(body)["error"]["message"]
        assert int(headers["Retry-After"]) >= 1
    small = stack.model("musicgen-small")
    assert small["state"] == "unavailable" and "facebook/musicgen-small" in small["reason"]
    # A default model that made room comes back.
    until(lambda: stack.get("/readyz")[0] == 200)


@pytest.mark.slow
async def test_a_hub_without_an_answer_counts_as_missing_weights(
    stack: Stack, hub: FakeHub
) -> None:
    hub.mode = "hang"
    try:
        status, _, body = await post(stack, {**GOOD, "model": "musicgen-small"})
    finally:
        hub.mode = "serve"
    assert (status, code(body)[0]) == (503, "weights_missing")
