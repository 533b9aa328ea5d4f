"""The loading policy, on a Triton that loads nothing."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.contract import Failed, Loading, Ready
from gateway.errors import DeadStub, EngineUnavailable, ModelLoading, WeightsMissing
from gateway.models import Models
from gateway.settings import Settings
from tests.gateway.fake_triton import FakeTriton


@pytest.fixture
async def models(triton: FakeTriton, settings: Settings) -> AsyncIterator[Models]:
    models = Models(triton, settings)
    yield models
    await models.close()


@pytest.fixture
async def hasty(triton: FakeTriton, settings: Settings) -> AsyncIterator[Models]:
    """Does not wait long for a model."""
    models = Models(triton, dataclasses.replace(settings, load_timeout=0.2))
    yield models
    await models.close()


async def touch(models: Models, *names: str) -> None:
    for name in names:
        async with models.use(name):
            pass


async def until(condition: Callable[[], object]) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(wait(), 2)


async def test_concurrent_first_requests_share_one_load(triton: FakeTriton, models: Models) -> None:
    await asyncio.gather(*(touch(models, "musicgen-small") for _ in range(5)))
    assert triton.calls == ["load musicgen-small"]


async def test_a_loaded_model_is_used_at_once(triton: FakeTriton, models: Models) -> None:
    await touch(models, "musicgen-small", "musicgen-small")
    assert triton.calls == ["load musicgen-small"]


async def test_a_load_outlives_the_waiter_that_began_it(triton: FakeTriton, models: Models) -> None:
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


async def test_the_idle_model_used_longest_ago_makes_room(
    triton: FakeTriton, models: Models
) -> None:
    await touch(models, "musicgen-tiny", "musicgen-small", "musicgen-tiny", "musicgen-medium")
    assert await triton.loaded() == {"musicgen-tiny", "musicgen-medium"}


async def test_a_model_in_use_is_never_unloaded(triton: FakeTriton, models: Models) -> None:
    async with models.use("musicgen-tiny"):
        await touch(models, "musicgen-small", "musicgen-medium", "musicgen-stereo-small")
        assert "musicgen-tiny" in triton.held
        assert len(await triton.loaded()) == 2


async def test_a_model_that_makes_music_for_others_is_never_unloaded(
    triton: FakeTriton, models: Models
) -> None:
    await touch(models, "musicgen-tiny", "musicgen-small")
    triton.busy.add("musicgen-tiny")
    await touch(models, "musicgen-medium")
    assert await triton.loaded() == {"musicgen-tiny", "musicgen-medium"}


async def test_what_others_loaded_counts_and_goes_first(triton: FakeTriton, models: Models) -> None:
    triton.held |= {"musicgen-medium"}
    await touch(models, "musicgen-tiny", "musicgen-small")
    assert await triton.loaded() == {"musicgen-tiny", "musicgen-small"}


async def test_never_more_than_the_limit_are_loaded_whatever_the_crowd(
    triton: FakeTriton, models: Models
) -> None:
    most = 0

    async def use(name: str) -> None:
        nonlocal most
        async with models.use(name):
            assert name in triton.held
            most = max(most, len(await triton.loaded()))
            await asyncio.sleep(0.01)
            assert name in triton.held

    names = [variant.name for variant in triton.variants]
    await asyncio.gather(*(use(names[number % 4]) for number in range(24)))
    assert most == 2


async def test_where_all_are_busy_the_next_waits_for_an_idle_one(
    triton: FakeTriton, models: Models
) -> None:
    async with models.use("musicgen-tiny"):
        async with models.use("musicgen-small"):
            waiting = asyncio.create_task(touch(models, "musicgen-medium"))
            await asyncio.sleep(0.1)
            assert not waiting.done()
        await waiting
    assert await triton.loaded() == {"musicgen-tiny", "musicgen-medium"}


async def test_where_all_stay_busy_the_next_is_sent_away(triton: FakeTriton, hasty: Models) -> None:
    async with hasty.use("musicgen-tiny"), hasty.use("musicgen-small"):
        with pytest.raises(ModelLoading):
            await touch(hasty, "musicgen-medium")
    assert await triton.loaded() == {"musicgen-tiny", "musicgen-small"}


async def test_a_slow_load_goes_on_when_its_waiters_leave_with_its_progress(
    triton: FakeTriton, hasty: Models
) -> None:
    triton.loading["musicgen-small"] = Loading(120_000_000, 1_000_000_000)
    with pytest.raises(ModelLoading, match="120 of 1000 MB downloaded"):
        await touch(hasty, "musicgen-small")
    assert await hasty.statuses(["musicgen-small"]) == [Loading(120_000_000, 1_000_000_000)]
    triton.loading.clear()
    await touch(hasty, "musicgen-small")
    assert triton.calls == ["load musicgen-small"]


async def test_who_waits_for_room_does_not_hold_up_models_that_have_it(
    triton: FakeTriton, models: Models
) -> None:
    async with models.use("musicgen-tiny"), models.use("musicgen-small"):
        waiting = asyncio.create_task(touch(models, "musicgen-medium"))
        await asyncio.sleep(0.05)
        triton.loading["musicgen-tiny"] = Loading()  # its engine is started again
        again = asyncio.create_task(touch(models, "musicgen-tiny"))
        await asyncio.sleep(0.05)
        triton.loading.clear()
        await asyncio.wait_for(again, 2)
        assert not waiting.done()
    await waiting


async def test_a_failed_load_is_said_to_all_unloaded_and_remembered(
    triton: FakeTriton, models: Models
) -> None:
    triton.failing["musicgen-small"] = WeightsMissing("no weights; put them there")
    answers = await asyncio.gather(
        *(touch(models, "musicgen-small") for _ in range(3)), return_exceptions=True
    )
    assert [str(answer) for answer in answers] == ["no weights; put them there"] * 3
    assert triton.calls == ["load musicgen-small", "unload musicgen-small"]
    [status] = await models.statuses(["musicgen-small"])
    assert isinstance(status, Failed)
    assert isinstance(status.error, WeightsMissing)


async def test_a_failed_model_may_be_asked_for_again(triton: FakeTriton, models: Models) -> None:
    triton.failing["musicgen-small"] = EngineUnavailable("the engine keeps dying")
    with pytest.raises(EngineUnavailable):
        await touch(models, "musicgen-small")
    triton.failing.clear()
    await touch(models, "musicgen-small")
    assert await models.statuses(["musicgen-small", "musicgen-tiny"]) == [Ready(), None]


async def test_a_dead_stub_is_unloaded_and_loaded_once_for_all(
    triton: FakeTriton, models: Models
) -> None:
    await touch(models, "musicgen-small")
    triton.calls.clear()
    triton.dead.add("musicgen-small")
    [status] = await models.statuses(["musicgen-small"])
    assert isinstance(status, Failed)
    assert isinstance(status.error, DeadStub)
    await asyncio.gather(*(touch(models, "musicgen-small") for _ in range(4)))
    assert triton.calls == ["unload musicgen-small", "load musicgen-small"]


async def test_what_a_restart_lost_is_loaded_again(triton: FakeTriton, models: Models) -> None:
    await touch(models, "musicgen-small")
    triton.restart()
    await touch(models, "musicgen-small")
    assert triton.calls == ["load musicgen-small"] * 2


async def test_after_a_restart_songs_get_the_places_before_an_idle_model(
    triton: FakeTriton, models: Models
) -> None:
    async with models.use("musicgen-small"), models.use("musicgen-medium"):
        triton.restart()
        assert not await models.has_room_for("musicgen-tiny")
        assert await models.has_room_for("musicgen-small")
        await asyncio.gather(*map(models.ensure_ready, ["musicgen-small", "musicgen-medium"]))
    assert await triton.loaded() == {"musicgen-small", "musicgen-medium"}


@pytest.mark.parametrize("how", ["dead", "gone"])
async def test_the_front_is_brought_back_once_for_all(
    triton: FakeTriton, models: Models, how: str
) -> None:
    triton.dead.add("musicgen") if how == "dead" else triton.held.clear()
    answers = await asyncio.gather(*(models.catalogue() for _ in range(3)))
    assert answers == [triton.variants] * 3
    assert triton.calls == ["unload musicgen", "load musicgen"]


async def test_one_place_serves_model_after_model(triton: FakeTriton, settings: Settings) -> None:
    models = Models(triton, dataclasses.replace(settings, max_loaded_models=1))
    await asyncio.gather(*(touch(models, variant.name) for variant in triton.variants))
    assert len(await triton.loaded()) == 1
    assert len([call for call in triton.calls if call.startswith("load")]) == 4


async def test_an_engine_that_died_is_left_to_its_stub(triton: FakeTriton, models: Models) -> None:
    await touch(models, "musicgen-small")
    triton.failing["musicgen-small"] = EngineUnavailable("it died; it is started again")
    with pytest.raises(EngineUnavailable, match="started again"):
        await touch(models, "musicgen-small")
    del triton.failing["musicgen-small"]
    await touch(models, "musicgen-small")
    assert triton.calls == ["load musicgen-small"]
