"""Songs survive failures of engines, stubs and Triton."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.contract import DeadStub, Progress
from gateway.generation import Generation
from gateway.metrics import Metrics
from gateway.models import Models
from gateway.settings import GatewaySettings
from protocol.errors import (
    EngineUnavailable,
    Internal,
    InvalidField,
    QueueFull,
    ServiceError,
    TritonUnavailable,
    WeightsChanged,
)
from protocol.request import GenerationRequest
from tests.gateway.fake_triton import FakeTriton
from tests.gateway.test_models import until

MODEL = "musicgen-small"
REQUEST = GenerationRequest("slow piano", 225, seed=7)
DOWN = TritonUnavailable("Triton does not response.")


@pytest.fixture
async def models(triton: FakeTriton, settings: GatewaySettings) -> AsyncIterator[Models]:
    models = Models(triton, settings)
    yield models
    await models.close()


@pytest.fixture
def generation(triton: FakeTriton, models: Models, settings: GatewaySettings) -> Generation:
    return Generation(triton, models, settings, Metrics())


def ignore(_: Progress) -> None: ...


async def generate(
    generation: Generation, request: GenerationRequest = REQUEST
) -> NDArray[np.float32]:
    """The song's samples."""
    chunks = generation.generate(MODEL, request, ignore)
    return np.concatenate([chunk.audio[0] async for chunk in chunks])


def is_complete(audio: NDArray[np.float32]) -> bool:
    expected = np.repeat(np.arange(REQUEST.frames, dtype=np.float32) / 20_000, 640)
    return np.array_equal(audio, expected)


async def test_a_song_is_complete(generation: Generation) -> None:
    assert is_complete(await generate(generation))


async def test_the_stream_has_ended_before_the_last_chunk_is_sent(
    generation: Generation, triton: FakeTriton
) -> None:
    running = [triton.running async for _ in generation.generate(MODEL, REQUEST, ignore)]
    assert running == [1] * (len(running) - 1) + [0]


@pytest.mark.parametrize(
    "cut",
    [EngineUnavailable("killed"), DOWN, DeadStub(MODEL), QueueFull("all return")],
    ids=lambda cut: cut.code,
)
async def test_a_broken_stream_is_resumed(
    triton: FakeTriton, generation: Generation, cut: ServiceError
) -> None:
    triton.cuts = [cut, cut]
    assert is_complete(await generate(generation))
    sent = triton.requests
    assert [request.start for request in sent] == [0, 32_000, 64_000]
    codes = sent[2].codes
    assert codes is not None
    assert codes.shape == (4, 103) and np.array_equal(codes[0], np.arange(103))
    assert [request.revision for request in sent] == [None, triton.revision, triton.revision]
    assert {request.seed for request in sent} == {REQUEST.seed}
    assert {dataclasses.replace(request, start=0, revision=None) for request in sent} == {REQUEST}


async def test_audio_leaves_memory_when_its_codes_are_here(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.cuts = [EngineUnavailable("killed")]
    audio = np.zeros((1, 32_000), np.float32)
    request = dataclasses.replace(REQUEST, prompt_audio=audio, start=16_000)
    async for _ in generation.generate(MODEL, request, ignore):
        pass
    assert [sent.prompt_audio is audio for sent in triton.requests] == [True, False]
    assert triton.requests[1].prompt_audio is None
    assert triton.requests[1].start == 16_000 + 32_000


async def test_a_dead_stub_is_reloaded_in_mid_song(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.pause = 0.02
    song = asyncio.create_task(generate(generation))
    await until(lambda: triton.running)
    triton.dead.add(MODEL)
    triton.cuts = [DeadStub(MODEL)]
    assert is_complete(await song)
    assert triton.calls == [f"load {MODEL}", f"unload {MODEL}", f"load {MODEL}"]


async def test_models_are_reloaded_when_triton_restarts_in_mid_song(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.pause = 0.02
    song = asyncio.create_task(generate(generation))
    await until(lambda: triton.running)
    triton.down, triton.cuts = True, [DOWN]
    await asyncio.sleep(0.1)
    triton.restart()
    triton.down = False
    assert is_complete(await song)


async def test_each_chunk_restarts_the_resume_timeout(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.cuts = [EngineUnavailable("killed")] * 4
    triton.pause = 0.2  # the whole song takes longer than the timeout
    assert is_complete(await generate(generation))
    triton.cuts = [DOWN]
    chunks = generation.generate(MODEL, REQUEST, ignore)
    await anext(chunks)
    triton.down = True
    with pytest.raises(TritonUnavailable):
        await asyncio.wait_for(anext(chunks), 2)


async def test_a_song_is_not_resumed_with_other_weights(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.cuts = [EngineUnavailable("killed")]
    chunks = generation.generate(MODEL, REQUEST, ignore)
    await anext(chunks)
    triton.revision = "ba9876543210"
    with pytest.raises(WeightsChanged):
        await anext(chunks)


@pytest.mark.parametrize("error", [InvalidField("prompt: no", "prompt"), Internal("failed")])
async def test_other_errors_are_not_tried_again(
    triton: FakeTriton, generation: Generation, error: ServiceError
) -> None:
    triton.cuts = [error]
    with pytest.raises(type(error)):
        await generate(generation)
    assert len(triton.requests) == 1


async def test_a_song_that_never_began_fails_at_once(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.failing[MODEL] = EngineUnavailable("it keeps dying")
    with pytest.raises(EngineUnavailable, match="keeps dying"):
        await asyncio.wait_for(generate(generation), 0.3)


async def test_a_silent_stream_of_a_live_model_goes_on(
    triton: FakeTriton, generation: Generation, settings: GatewaySettings
) -> None:
    triton.pause = 1.5 * settings.silence_timeout
    assert (await generate(generation, dataclasses.replace(REQUEST, frames=50))).size == 32_000
    assert len(triton.requests) == 1


async def test_a_silent_stream_of_a_dead_model_is_resumed(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.stuck = True
    song = asyncio.create_task(generate(generation))
    await until(lambda: triton.running)
    triton.dead.add(MODEL)
    triton.stuck = False
    assert is_complete(await song)
    assert f"unload {MODEL}" in triton.calls
    assert triton.running == 0
