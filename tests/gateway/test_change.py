"""Changes reach the engine of a song, across its failures."""

import asyncio
from typing import Any

import pytest

from gateway.generation import Generation
from gateway.resume_state import ResumeState
from protocol.errors import EngineUnavailable, ModelLoading, QueueFull, ServiceError, SongEnded
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.songs import MODEL, REQUEST, ignore


def sections(state: ResumeState) -> list[tuple[object, int]]:
    return [(section.prompt, section.frames) for section in state.request.timeline]


async def changed(
    generation: Generation, chunks: int, state: ResumeState, *changes: dict[str, Any]
) -> list[int | ServiceError]:
    """Generate the song, and change it after so many chunks."""
    outcomes: list[Any] = []
    song = generation.generate(state, ignore)
    for _ in range(chunks):
        await anext(song)
    asking = [asyncio.create_task(generation.change(state, change)) for change in changes]
    async for _ in song:
        pass
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    return outcomes


async def test_a_change_counts_from_where_the_engine_says(
    triton: FakeTriton, generation: Generation
) -> None:
    state = ResumeState(MODEL, REQUEST)
    assert await changed(generation, 1, state, {"prompt": "drums"}) == [53]
    assert sections(state) == [("slow piano", 53), ("drums", 172)]


async def test_a_resumed_song_has_its_changes(triton: FakeTriton, generation: Generation) -> None:
    triton.pause = 0.01
    state = ResumeState(MODEL, REQUEST)
    song = generation.generate(state, ignore)
    await anext(song)
    asking = asyncio.create_task(generation.change(state, {"prompt": "drums"}))
    await anext(song)
    triton.cuts = [EngineUnavailable("killed")]
    async for _ in song:
        pass
    frame = await asking
    assert triton.requests[1].timeline == REQUEST.changed(frame, {"prompt": "drums"}).timeline


async def test_a_change_that_its_engine_confirmed_survives_it(
    triton: FakeTriton, generation: Generation
) -> None:
    """The first engine confirms it and dies before the song's own stream tells of it."""
    triton.pause, triton.mute = 0.01, True
    state = ResumeState(MODEL, REQUEST)
    song = generation.generate(state, ignore)
    await anext(song)
    asking = asyncio.create_task(generation.change(state, {"prompt": "drums"}))
    while not triton.changes:
        await asyncio.sleep(0)
    triton.cuts, triton.mute = [EngineUnavailable("killed")], False
    async for _ in song:
        pass
    frame = await asking
    assert triton.requests[1].timeline == REQUEST.changed(frame, {"prompt": "drums"}).timeline
    assert len(triton.requests) == 2


@pytest.mark.parametrize("cuts", [[], [EngineUnavailable("killed")]], ids=["lives", "dies"])
async def test_a_change_whose_reply_is_lost_counts_once(
    triton: FakeTriton, generation: Generation, cuts: list[Exception]
) -> None:
    triton.pause, triton.lost_replies = 0.01, [EngineUnavailable("killed")]
    state = ResumeState(MODEL, REQUEST)
    song = generation.generate(state, ignore)
    await anext(song)
    asking = asyncio.create_task(generation.change(state, {"prompt": "drums", "duration": 1}))
    await anext(song)
    triton.cuts = cuts
    async for _ in song:
        pass
    assert await asking == 53
    assert sections(state) == [("slow piano", 53), ("drums", 50), ("slow piano", 122)]


async def test_a_change_told_just_before_the_end_is_confirmed(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.pause, triton.change_delay = 0.01, 0.3
    state = ResumeState(MODEL, REQUEST)
    assert await changed(generation, 1, state, {"prompt": "drums"}) == [53]


async def test_a_change_does_not_wait_for_a_slow_listener(
    triton: FakeTriton, generation: Generation
) -> None:
    """The song's stream, which tells of it too, is read only as fast as the listener reads."""
    state = ResumeState(MODEL, REQUEST)
    song = generation.generate(state, ignore)
    await anext(song)
    frame = await generation.change(state, {"prompt": "drums"})
    assert state.request.timeline == REQUEST.changed(frame, {"prompt": "drums"}).timeline
    await song.aclose()


async def test_a_change_waits_until_an_engine_has_the_song(
    triton: FakeTriton, generation: Generation
) -> None:
    """It alone knows whether its model can make the song so."""
    triton.down, triton.pause = True, 0.01
    state = ResumeState(MODEL, REQUEST)
    song = asyncio.create_task(anext(generation.generate(state, ignore)))
    asking = asyncio.create_task(generation.change(state, {"prompt": "drums"}))
    await asyncio.sleep(0.05)
    assert not asking.done()
    triton.down = False
    assert await asking == 0
    assert sections(state) == [("drums", 225)]
    await song


async def test_a_change_waits_while_the_model_loads(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.pause, triton.change_errors = 0.1, [ModelLoading("it loads"), ModelLoading("it loads")]
    state = ResumeState(MODEL, REQUEST)
    [frame] = await changed(generation, 1, state, {"prompt": "drums"})
    assert len(triton.changes) == 3
    assert sections(state) == [("slow piano", frame), ("drums", 225 - int(str(frame)))]


async def test_a_change_of_a_lost_song_waits_for_its_next_engine(
    triton: FakeTriton, generation: Generation
) -> None:
    state = ResumeState(MODEL, REQUEST)
    song = generation.generate(state, ignore)
    triton.cuts, triton.pause = [EngineUnavailable("killed")], 0.01
    await anext(song)
    triton.down = True
    going_on = asyncio.create_task(anext(song))
    while state.number:
        await asyncio.sleep(0)
    asking = asyncio.create_task(generation.change(state, {"cfg_coef": 1}))
    await asyncio.sleep(0.05)
    assert not asking.done()
    triton.down = False
    await going_on
    assert await asking == 53
    assert state.request.timeline[1].cfg_coef == 1.0
    await song.aclose()


async def test_a_song_that_has_ended_takes_no_change(generation: Generation) -> None:
    state = ResumeState(MODEL, REQUEST)
    async for _ in generation.generate(state, ignore):
        pass
    with pytest.raises(SongEnded):
        await generation.change(state, {"prompt": "drums"})


@pytest.mark.parametrize("error", [SongEnded("over"), QueueFull("no slot")], ids=lambda e: e.code)
async def test_the_engines_refusal_of_a_change_reaches_the_client(
    triton: FakeTriton, generation: Generation, error: ServiceError
) -> None:
    triton.pause, triton.change_errors = 0.2, [error]
    state = ResumeState(MODEL, REQUEST)
    assert await changed(generation, 1, state, {"prompt": "drums"}) == [error]
    assert sections(state) == [("slow piano", 225)]
