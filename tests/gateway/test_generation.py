"""A song outlives what makes it."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.contract import Held, Progress
from gateway.errors import (
    DeadStub,
    EngineUnavailable,
    GatewayError,
    InvalidField,
    QueueFull,
    TritonUnavailable,
    WeightsChanged,
)
from gateway.generation import Generation
from gateway.metrics import Metrics
from gateway.models import Models
from gateway.settings import Settings
from gateway.song import Song
from gateway.upload import Audio
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.test_models import until

MODEL = "musicgen-small"
SONG = Song(None, "slow piano", 225, seed=7)


@pytest.fixture
async def models(triton: FakeTriton, settings: Settings) -> AsyncIterator[Models]:
    models = Models(triton, settings)
    yield models
    await models.close()


@pytest.fixture
def generation(triton: FakeTriton, models: Models, settings: Settings) -> Generation:
    return Generation(triton, models, settings, Metrics())


def ignore(_: Progress) -> None: ...


async def play(generation: Generation, song: Song = SONG) -> NDArray[np.float32]:
    """[samples]"""
    chunks = generation.play(MODEL, song, Held(), ignore)
    return np.concatenate([chunk.audio[0] async for chunk in chunks])


def is_whole(audio: NDArray[np.float32]) -> bool:
    expected = np.repeat(np.arange(SONG.frames, dtype=np.float32) / 20_000, 640)
    return np.array_equal(audio, expected)


async def test_a_song_is_whole(generation: Generation) -> None:
    assert is_whole(await play(generation))


async def test_the_stream_has_ended_when_the_last_of_a_song_goes_out(
    generation: Generation, triton: FakeTriton
) -> None:
    running = [triton.running async for _ in generation.play(MODEL, SONG, Held(), ignore)]
    assert running == [1] * (len(running) - 1) + [0]


@pytest.mark.parametrize(
    "cut",
    [EngineUnavailable("killed"), TritonUnavailable(), DeadStub(MODEL), QueueFull("all return")],
    ids=lambda cut: cut.code,
)
async def test_a_song_that_breaks_off_goes_on_where_it_was(
    triton: FakeTriton, generation: Generation, cut: GatewayError
) -> None:
    triton.cuts = [cut, cut]
    assert is_whole(await play(generation))
    held = [held for _, held in triton.heard]
    assert [part.samples for part in held] == [0, 32_000, 64_000]
    codes = np.concatenate(held[2].codes, axis=1)
    assert codes.shape == (4, 103) and np.array_equal(codes[0], np.arange(103))
    assert [part.revision for part in held] == [None, triton.revision, triton.revision]
    assert {song for song, _ in triton.heard} == {SONG}  # the same seed


async def test_audio_that_a_song_goes_on_from_is_let_go_once_its_codes_are_here(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.cuts = [EngineUnavailable("killed")]
    audio = Audio(np.zeros((1, 32_000), np.float32), 32_000)
    async for _ in generation.play(MODEL, SONG, Held(samples=16_000, audio=audio), ignore):
        pass
    assert [held.audio for _, held in triton.heard] == [audio, None]
    assert triton.heard[1][1].samples == 16_000 + 32_000


async def test_a_dead_stub_is_loaded_again_in_mid_song(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.pause = 0.02
    song = asyncio.create_task(play(generation))
    await until(lambda: triton.running)
    triton.dead.add(MODEL)
    triton.cuts = [DeadStub(MODEL)]
    assert is_whole(await song)
    assert triton.calls == [f"load {MODEL}", f"unload {MODEL}", f"load {MODEL}"]


async def test_a_triton_that_comes_back_without_models_is_given_them_again(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.pause = 0.02
    song = asyncio.create_task(play(generation))
    await until(lambda: triton.running)
    triton.down, triton.cuts = True, [TritonUnavailable()]
    await asyncio.sleep(0.1)
    triton.restart()
    triton.down = False
    assert is_whole(await song)


async def test_patience_ends_but_each_piece_of_music_renews_it(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.cuts = [EngineUnavailable("killed")] * 4
    triton.pause = 0.2  # all of it takes longer than the patience
    assert is_whole(await play(generation))
    triton.cuts = [TritonUnavailable()]
    chunks = generation.play(MODEL, SONG, Held(), ignore)
    await anext(chunks)
    triton.down = True
    with pytest.raises(TritonUnavailable):
        await asyncio.wait_for(anext(chunks), 2)


async def test_other_weights_do_not_go_on_with_a_song(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.cuts = [EngineUnavailable("killed")]
    chunks = generation.play(MODEL, SONG, Held(), ignore)
    await anext(chunks)
    triton.revision = "ba9876543210"
    with pytest.raises(WeightsChanged):
        await anext(chunks)


@pytest.mark.parametrize("told", [InvalidField("prompt: no", "prompt"), GatewayError("failed")])
async def test_what_would_happen_again_is_not_tried_again(
    triton: FakeTriton, generation: Generation, told: GatewayError
) -> None:
    triton.cuts = [told]
    with pytest.raises(type(told)):
        await play(generation)
    assert len(triton.heard) == 1


async def test_an_engine_that_was_never_heard_of_is_told_at_once(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.failing[MODEL] = EngineUnavailable("it keeps dying")
    with pytest.raises(EngineUnavailable, match="keeps dying"):
        await asyncio.wait_for(play(generation), 0.3)


async def test_silence_of_a_model_that_lives_is_waited_for(
    triton: FakeTriton, generation: Generation, settings: Settings
) -> None:
    triton.pause = 1.5 * settings.silence_timeout
    assert (await play(generation, dataclasses.replace(SONG, frames=50))).size == 32_000
    assert len(triton.heard) == 1


async def test_silence_of_a_model_that_does_not_answer_either_is_its_death(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.stuck = True
    song = asyncio.create_task(play(generation))
    await until(lambda: triton.running)
    triton.dead.add(MODEL)
    triton.stuck = False
    assert is_whole(await song)
    assert f"unload {MODEL}" in triton.calls
    assert triton.running == 0
