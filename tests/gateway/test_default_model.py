"""The choice of the default model, which is kept loaded, and spellings of names."""

import dataclasses

import pytest
from aiohttp.test_utils import TestClient

from gateway.default_model import choose, resolve
from gateway.settings import GatewaySettings
from protocol.errors import EngineUnavailable, UnknownModel, WeightsMissing
from tests.gateway.conftest import serve
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.test_models import until

HUB = [
    f"musicgen-{kind}{size}" for kind in ("", "stereo-") for size in ("large", "medium", "small")
]


@pytest.mark.parametrize(
    ("cached", "chosen"),
    [
        (HUB, "musicgen-small"),
        (["musicgen-stereo-small", "musicgen-large", "musicgen-medium"], "musicgen-medium"),
        (["musicgen-stereo-large", "musicgen-stereo-medium"], "musicgen-stereo-medium"),
        ([], "musicgen-tiny"),
    ],
)
def test_the_smallest_cached_mono_model_is_chosen(cached: list[str], chosen: str) -> None:
    variants = FakeTriton(*HUB, "musicgen-tiny", cached=tuple(cached)).variants
    assert choose(variants, "") == chosen


def test_a_setting_comes_first_in_any_spelling() -> None:
    variants = FakeTriton(*HUB, "musicgen-tiny", cached=("musicgen-small",)).variants
    assert choose(variants, "facebook/musicgen-large-stereo") == "musicgen-stereo-large"


@pytest.mark.parametrize("spelling", ["musicgen-stereo-melody", "musicgen-melody-stereo"])
def test_a_melody_model_may_be_spelt_in_either_order(spelling: str) -> None:
    known = ["musicgen-melody", "musicgen-stereo-melody"]
    for prefix in ("", "facebook/"):
        assert resolve(prefix + spelling, known) == "musicgen-stereo-melody"


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(EngineUnavailable, match="'bach' is not here; set DEFAULT_MODEL to one of"):
        choose(FakeTriton(*HUB).variants, "bach")
    with pytest.raises(EngineUnavailable, match="put models into the model repository"):
        choose([], "")


async def ready(client: TestClient) -> tuple[int, str]:
    async with client.get("/readyz") as response:
        body = await response.json()
        return response.status, body["model"] if response.status == 200 else body["error"]["code"]


async def until_ready(client: TestClient, expected: tuple[int, str]) -> None:
    response: tuple[int, str] | None = None
    for _ in range(200):
        if (response := await ready(client)) == expected:
            return
    assert response == expected


@pytest.fixture
async def up(client: TestClient) -> TestClient:
    await until_ready(client, (200, "musicgen-tiny"))
    return client


async def test_only_the_default_model_is_loaded_at_start(
    up: TestClient, triton: FakeTriton
) -> None:
    assert triton.calls == ["load musicgen-tiny"]


async def test_readiness_waits_for_triton(settings: GatewaySettings, triton: FakeTriton) -> None:
    triton.down = True
    async with serve(settings, triton) as client:
        assert await ready(client) == (503, "triton_unavailable")
        triton.down = False
        await until_ready(client, (200, "musicgen-tiny"))


async def test_it_is_loaded_again_after_a_restart(up: TestClient, triton: FakeTriton) -> None:
    triton.restart()
    await until(lambda: triton.calls == ["load musicgen-tiny"] * 2)


async def test_a_dead_stub_is_reloaded_without_a_request(
    up: TestClient, triton: FakeTriton
) -> None:
    triton.dead.add("musicgen-tiny")
    await until(lambda: triton.calls[1:] == ["unload musicgen-tiny", "load musicgen-tiny"])


async def test_a_failure_is_reported_until_it_ends(up: TestClient, triton: FakeTriton) -> None:
    triton.failing["musicgen-tiny"] = WeightsMissing("no weights")
    await until_ready(up, (503, "weights_missing"))
    triton.failing.clear()
    await until_ready(up, (200, "musicgen-tiny"))


async def test_a_model_that_made_room_is_ready_and_not_loaded(
    settings: GatewaySettings, triton: FakeTriton
) -> None:
    async with serve(dataclasses.replace(settings, max_loaded_models=1), triton) as client:
        await until_ready(client, (200, "musicgen-tiny"))
        song = {"prompt": "jazz", "duration": 0.1, "model": "musicgen-small"}
        assert (await client.post("/generate", json=song)).status == 200
        for _ in range(20):
            assert await ready(client) == (200, "musicgen-tiny")
        assert triton.models == {"musicgen", "musicgen-small"}


async def test_named_models_serve_if_the_setting_is_wrong(
    settings: GatewaySettings, triton: FakeTriton
) -> None:
    async with serve(dataclasses.replace(settings, default_model="bach"), triton) as client:
        assert await ready(client) == (503, "engine_unavailable")
        assert (await (await client.get("/models")).json())["default"] is None
        assert (await client.post("/generate", json={"prompt": "jazz"})).status == 503
        song = {"prompt": "jazz", "duration": 0.1, "model": "musicgen-small"}
        assert (await client.post("/generate", json=song)).status == 200


async def test_another_model_is_chosen_if_it_disappears(up: TestClient, triton: FakeTriton) -> None:
    tiny = triton.variants.pop()
    small = next(variant for variant in triton.variants if variant.name == "musicgen-small")
    triton.variants[triton.variants.index(small)] = dataclasses.replace(small, weights="cached")
    assert tiny.name == "musicgen-tiny"
    await until_ready(up, (200, "musicgen-small"))
    song = {"prompt": "slow piano", "duration": 1}
    assert (await up.post("/generate", json=song)).headers["X-Model"] == "musicgen-small"


KNOWN = ["musicgen-small", "musicgen-stereo-small", "my-stereo", "musicgen-tiny"]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("musicgen-small", "musicgen-small"),
        ("facebook/musicgen-small", "musicgen-small"),
        ("facebook/musicgen-stereo-small", "musicgen-stereo-small"),
        ("facebook/musicgen-small-stereo", "musicgen-stereo-small"),
        ("musicgen-small-stereo", "musicgen-stereo-small"),
        ("my-stereo", "my-stereo"),
    ],
)
def test_every_common_spelling_finds_its_model(spelling: str, name: str) -> None:
    assert resolve(spelling, KNOWN) == name


@pytest.mark.parametrize(
    "spelling",
    ["", "facebook/", "small", "MUSICGEN-SMALL", "google/musicgen-small", "my", "\ud800"],
)
def test_the_error_of_an_unknown_name_has_all_names(spelling: str) -> None:
    with pytest.raises(UnknownModel, match=", ".join(sorted(KNOWN))) as raised:
        resolve(spelling, KNOWN)
    assert raised.value.field == "model"
