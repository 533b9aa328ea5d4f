"""Loading and unloading of models, with a fake Triton."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from gateway.contract import DeadStub, Failed, Loading, Ready
from gateway.models import Models
from gateway.settings import GatewaySettings
from protocol.errors import EngineUnavailable, ModelLoading, WeightsMissing
from tests.conftest import TIMEOUT
from tests.gateway.fake_triton import FakeTriton


@pytest.fixture
async def impatient(triton: FakeTriton, settings: GatewaySettings) -> AsyncIterator[Models]:
    """Models with a short LOAD_TIMEOUT."""
    models = Models(triton, dataclasses.replace(settings, load_timeout=0.2))
    yield models
    await models.close()


@asynccontextmanager
async def use(models: Models, name: str) -> AsyncIterator[None]:
    """Use the model as a song does."""
    with models.use(name):
        await models.ensure_ready(name)
        yield


async def touch(models: Models, *names: str) -> None:
    for name in names:
        async with use(models, name):
            pass


async def until(condition: Callable[[], object]) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(wait(), TIMEOUT)


async def test_concurrent_first_requests_share_one_load(triton: FakeTriton, models: Models) -> None:
    await asyncio.gather(*(touch(models, "musicgen-small") for _ in range(5)))
    assert triton.calls == ["load musicgen-small"]


async def test_a_loaded_model_is_used_at_once(triton: FakeTriton, models: Models) -> None:
    await touch(models, "musicgen-small", "musicgen-small")
    assert triton.calls == ["load musicgen-small"]


async def test_a_load_outlives_the_request_that_started_it(
    triton: FakeTriton, models: Models
) -> None:
    triton.loading["musicgen-small"] = Loading()
    first = asyncio.create_task(touch(models, "musicgen-small"))
    second = asyncio.create_task(touch(models, "musicgen-small"))
    await until(lambda: triton.calls)
    first.cancel()
    await asyncio.wait({first})
    triton.loading.clear()
    await second
    assert first.cancelled()
    assert triton.calls == ["load musicgen-small"]


async def test_the_least_recently_used_idle_model_is_unloaded(
    triton: FakeTriton, models: Models
) -> None:
    await touch(models, "musicgen-tiny", "musicgen-small", "musicgen-tiny", "musicgen-medium")
    assert await triton.loaded() == {"musicgen-tiny", "musicgen-medium"}


async def test_a_model_in_use_is_never_unloaded(triton: FakeTriton, models: Models) -> None:
    async with use(models, "musicgen-tiny"):
        await touch(models, "musicgen-small", "musicgen-medium", "musicgen-stereo-small")
        assert "musicgen-tiny" in triton.models
        assert len(await triton.loaded()) == 2


async def test_a_model_busy_for_other_clients_is_never_unloaded(
    triton: FakeTriton, models: Models
) -> None:
    await touch(models, "musicgen-tiny", "musicgen-small")
    triton.songs["musicgen-tiny"] = 1
    await touch(models, "musicgen-medium")
    assert await triton.loaded() == {"musicgen-tiny", "musicgen-medium"}


async def test_models_that_others_loaded_are_unloaded_first(
    triton: FakeTriton, models: Models
) -> None:
    triton.models |= {"musicgen-medium"}
    await touch(models, "musicgen-tiny", "musicgen-small")
    assert await triton.loaded() == {"musicgen-tiny", "musicgen-small"}


async def test_never_more_models_than_the_limit_are_loaded(
    triton: FakeTriton, models: Models
) -> None:
    most = 0

    async def generate(name: str) -> None:
        nonlocal most
        async with use(models, name):
            assert name in triton.models
            most = max(most, len(await triton.loaded()))
            await asyncio.sleep(0.01)
            assert name in triton.models

    names = [variant.name for variant in triton.variants]
    await asyncio.gather(*(generate(names[number % 4]) for number in range(24)))
    assert most == 2


async def test_a_load_waits_for_an_idle_model(triton: FakeTriton, models: Models) -> None:
    async with use(models, "musicgen-tiny"):
        async with use(models, "musicgen-small"):
            waiting = asyncio.create_task(touch(models, "musicgen-medium"))
            await asyncio.sleep(0.1)
            assert not waiting.done()
        await waiting
    assert await triton.loaded() == {"musicgen-tiny", "musicgen-medium"}


async def test_a_load_fails_if_all_models_stay_busy(triton: FakeTriton, impatient: Models) -> None:
    async with use(impatient, "musicgen-tiny"), use(impatient, "musicgen-small"):
        with pytest.raises(ModelLoading):
            await touch(impatient, "musicgen-medium")
    assert await triton.loaded() == {"musicgen-tiny", "musicgen-small"}


async def test_a_slow_load_continues_after_its_timeout(
    triton: FakeTriton, impatient: Models
) -> None:
    triton.loading["musicgen-small"] = Loading(120_000_000, 1_000_000_000)
    with pytest.raises(ModelLoading, match="120 of 1000 MB downloaded"):
        await touch(impatient, "musicgen-small")
    assert await impatient.status("musicgen-small") == Loading(120_000_000, 1_000_000_000)
    triton.loading.clear()
    while not isinstance(await impatient.status("musicgen-small"), Ready):
        with suppress(ModelLoading):
            await touch(impatient, "musicgen-small")
    assert triton.calls == ["load musicgen-small"]


async def test_a_load_that_waits_does_not_block_loaded_models(
    triton: FakeTriton, models: Models
) -> None:
    async with use(models, "musicgen-tiny"), use(models, "musicgen-small"):
        waiting = asyncio.create_task(touch(models, "musicgen-medium"))
        await asyncio.sleep(0.05)
        triton.loading["musicgen-tiny"] = Loading()  # its engine restarts
        again = asyncio.create_task(touch(models, "musicgen-tiny"))
        await asyncio.sleep(0.05)
        triton.loading.clear()
        await again
        assert not waiting.done()
    await waiting


async def test_all_requests_get_the_error_of_a_failed_load(
    triton: FakeTriton, models: Models
) -> None:
    triton.failing["musicgen-small"] = WeightsMissing("no weights; put them there")
    errors = await asyncio.gather(
        *(touch(models, "musicgen-small") for _ in range(3)), return_exceptions=True
    )
    messages = [error.message for error in errors if isinstance(error, WeightsMissing)]
    assert messages == ["no weights; put them there"] * 3
    assert triton.calls == ["load musicgen-small", "unload musicgen-small"]
    status = await models.status("musicgen-small")
    assert isinstance(status, Failed)
    assert isinstance(status.error, WeightsMissing)


async def test_a_failed_load_can_be_tried_again(triton: FakeTriton, models: Models) -> None:
    triton.failing["musicgen-small"] = EngineUnavailable("the engine keeps dying")
    with pytest.raises(EngineUnavailable):
        await touch(models, "musicgen-small")
    triton.failing.clear()
    await touch(models, "musicgen-small")
    assert isinstance(await models.status("musicgen-small"), Ready)
    assert await models.status("musicgen-tiny") is None


async def test_a_dead_stub_is_reloaded_once_for_all_requests(
    triton: FakeTriton, models: Models
) -> None:
    await touch(models, "musicgen-small")
    triton.calls.clear()
    triton.dead.add("musicgen-small")
    status = await models.status("musicgen-small")
    assert isinstance(status, Failed)
    assert isinstance(status.error, DeadStub)
    await asyncio.gather(*(touch(models, "musicgen-small") for _ in range(4)))
    assert triton.calls == ["unload musicgen-small", "load musicgen-small"]


async def test_models_are_loaded_again_after_a_restart(triton: FakeTriton, models: Models) -> None:
    await touch(models, "musicgen-small")
    triton.restart()
    await touch(models, "musicgen-small")
    assert triton.calls == ["load musicgen-small"] * 2


async def test_after_a_restart_models_with_users_come_first(
    triton: FakeTriton, models: Models
) -> None:
    async with use(models, "musicgen-small"), use(models, "musicgen-medium"):
        triton.restart()
        assert not await models.has_room_for("musicgen-tiny")
        assert await models.has_room_for("musicgen-small")
        await asyncio.gather(*map(models.ensure_ready, ["musicgen-small", "musicgen-medium"]))
    assert await triton.loaded() == {"musicgen-small", "musicgen-medium"}


@pytest.mark.parametrize("how", ["dead", "gone"])
async def test_a_model_that_cannot_take_songs_is_loaded_first(
    triton: FakeTriton, models: Models, how: str
) -> None:
    await touch(models, "musicgen-small")
    triton.dead.add("musicgen-small") if how == "dead" else triton.restart()
    await models.ensure_open("musicgen-small")
    triton.loading["musicgen-small"] = Loading()
    await models.ensure_open("musicgen-small")
    assert triton.calls.count("load musicgen-small") == 2


@pytest.mark.parametrize("how", ["dead", "gone"])
async def test_the_front_is_reloaded_once_for_all_requests(
    triton: FakeTriton, models: Models, how: str
) -> None:
    triton.dead.add("musicgen") if how == "dead" else triton.models.clear()
    catalogues = await asyncio.gather(*(models.catalogue() for _ in range(3)))
    assert catalogues == [triton.variants] * 3
    assert triton.calls == ["unload musicgen", "load musicgen"]


async def test_one_place_serves_one_model_after_another(
    triton: FakeTriton, settings: GatewaySettings
) -> None:
    models = Models(triton, dataclasses.replace(settings, max_loaded_models=1))
    await asyncio.gather(*(touch(models, variant.name) for variant in triton.variants))
    assert len(await triton.loaded()) == 1
    assert len([call for call in triton.calls if call.startswith("load")]) == 4


async def test_a_dead_engine_is_restarted_by_its_stub(triton: FakeTriton, models: Models) -> None:
    await touch(models, "musicgen-small")
    triton.failing["musicgen-small"] = EngineUnavailable("it died; it is started again")
    with pytest.raises(EngineUnavailable, match="started again"):
        await touch(models, "musicgen-small")
    del triton.failing["musicgen-small"]
    await touch(models, "musicgen-small")
    assert triton.calls == ["load musicgen-small"]
