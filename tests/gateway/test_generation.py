"""Songs survive failures of engines, stubs and Triton."""

import asyncio
import dataclasses
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.contract import Chunk, DeadStub, Loading, Progress
from gateway.generation import Generation
from gateway.metrics import Metrics
from gateway.models import Models
from gateway.resume_state import ResumeState
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
from tests.gateway.fake_triton import CHROMA, FakeTriton
from tests.gateway.songs import MODEL, REQUEST, ignore, is_complete
from tests.gateway.test_models import until

DOWN = TritonUnavailable("Triton does not response.")


async def generate(
    generation: Generation, request: GenerationRequest = REQUEST
) -> NDArray[np.float32]:
    """The song's samples."""
    chunks = generation.generate(ResumeState(MODEL, request), ignore)
    return np.concatenate([chunk.audio[0] async for chunk in chunks])


async def test_a_song_is_complete(generation: Generation) -> None:
    assert is_complete(await generate(generation))


async def test_the_stream_has_ended_before_the_last_chunk_is_sent(
    generation: Generation, triton: FakeTriton
) -> None:
    running = [
        triton.running async for _ in generation.generate(ResumeState(MODEL, REQUEST), ignore)
    ]
    assert running == [1] * (len(running) - 1) + [0]


@pytest.mark.parametrize(
    "cut",
    [EngineUnavailable("killed"), DOWN, DeadStub(MODEL)],
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
    same = [
        dataclasses.replace(request, start=0, revision=None, arrival_time=None) for request in sent
    ]
    assert same == [REQUEST] * 3


async def test_audio_leaves_memory_when_its_codes_are_here(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.cuts = [EngineUnavailable("killed")]
    audio = np.zeros((1, 32_000), np.float32)
    request = dataclasses.replace(REQUEST, prompt_audio=audio, start=16_000)
    async for _ in generation.generate(ResumeState(MODEL, request), ignore):
        pass
    assert [sent.prompt_audio is audio for sent in triton.requests] == [True, False]
    assert triton.requests[1].prompt_audio is None
    assert triton.requests[1].start == 16_000 + 32_000


async def test_a_melody_is_resumed_by_its_chroma(
    triton: FakeTriton, generation: Generation
) -> None:
    """Also when it breaks off again, and before its first chunk by its audio."""
    triton.refusals = [EngineUnavailable("killed")]
    triton.cuts = [EngineUnavailable("killed"), EngineUnavailable("killed")]
    request = dataclasses.replace(REQUEST, melody=np.ones((1, 32_000), np.float32))
    async for _ in generation.generate(ResumeState(MODEL, request), ignore):
        pass
    first, second, *later = triton.requests
    assert first.melody is request.melody and second.melody is request.melody
    assert len(later) == 2
    for rest in later:
        assert rest.melody is None and rest.chroma is not None
        assert np.array_equal(rest.chroma, CHROMA)


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


@pytest.mark.parametrize("lost", [EngineUnavailable("killed"), DOWN, DeadStub(MODEL)])
async def test_a_song_lost_before_its_first_response_is_sent_again(
    triton: FakeTriton, generation: Generation, lost: ServiceError
) -> None:
    triton.refusals = [lost, lost]
    request = dataclasses.replace(REQUEST, prompt_audio=np.zeros((1, 32_000), np.float32))
    assert is_complete(await generate(generation, request))
    assert [sent.prompt_audio is request.prompt_audio for sent in triton.requests] == [True] * 3
    assert [sent.arrival_time for sent in triton.requests] == [None] * 3


async def test_a_song_waits_for_a_triton_that_restarts(
    triton: FakeTriton, generation: Generation
) -> None:
    """It may have died while the gateway read the song's file."""
    triton.down = True
    song = asyncio.create_task(generate(generation))
    await asyncio.sleep(0.05)
    triton.down = False
    assert is_complete(await song)


async def test_a_new_song_that_the_queue_refuses_is_not_sent_again(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.refusals = [QueueFull("4 songs wait already")]
    with pytest.raises(QueueFull):
        await generate(generation)
    assert len(triton.requests) == 1


async def test_a_song_is_back_before_the_engine_has_loaded(
    triton: FakeTriton, generation: Generation
) -> None:
    """No new song gets a slot before it."""
    triton.cuts = [EngineUnavailable("killed")]
    chunks = generation.generate(ResumeState(MODEL, REQUEST), ignore)
    await anext(chunks)
    triton.loading[MODEL] = Loading()
    async for _ in chunks:
        pass
    assert len(triton.requests) == 2


async def test_an_accepted_song_keeps_its_place(triton: FakeTriton, generation: Generation) -> None:
    before = time.time_ns()
    triton.cuts = [EngineUnavailable("killed")] * 2
    chunks = generation.generate(ResumeState(MODEL, REQUEST), ignore)
    await anext(chunks)
    accepted = time.time_ns()
    triton.refusals = [EngineUnavailable("killed")] * 3
    async for _ in chunks:
        pass
    first, *resumed = triton.requests
    assert first.arrival_time is None
    [place] = {request.arrival_time for request in resumed}
    assert place and before <= place <= accepted


async def test_a_new_song_comes_after_all_that_were_accepted(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.cuts = [EngineUnavailable("killed")]
    accepted = generation.generate(ResumeState(MODEL, REQUEST), ignore)
    await anext(accepted)
    triton.refusals = [EngineUnavailable("killed")]
    rest = asyncio.ensure_future(anext(accepted))
    await until(lambda: triton.running == 0)
    await generate(generation, dataclasses.replace(REQUEST, seed=8))
    await rest
    assert [request.seed for request in triton.requests] == [7, 7, 7, 8]


def chunk(frames: int) -> Chunk:
    audio, codes = np.zeros((1, 640 * frames), np.float32), np.zeros((4, frames), np.int32)
    return Chunk(audio, codes, 32_000, "0123456789ab", Progress("generating"))


def test_the_time_that_a_model_is_away_adds_up_until_audio_comes() -> None:
    """But not the time in its queue."""
    state = ResumeState(MODEL, REQUEST)
    assert state.lose(now=100, timeout=60) == 160
    assert state.lose(now=110, timeout=60) == 160
    state.add(Progress("queued", 2), now=120)
    state.add(Progress("queued", 1), now=900)
    assert state.lose(now=1000, timeout=60) == 1040
    state.add(chunk(50), now=1030)
    assert state.lose(now=2000, timeout=60) == 2060


async def test_a_song_fails_when_its_model_is_away_for_too_long(
    triton: FakeTriton, models: Models, settings: GatewaySettings
) -> None:
    impatient = dataclasses.replace(settings, resume_timeout=0.2)
    generation = Generation(models, impatient, Metrics())
    triton.cuts = [DOWN]
    chunks = generation.generate(ResumeState(MODEL, REQUEST), ignore)
    await anext(chunks)
    triton.down = True
    with pytest.raises(TritonUnavailable):
        await anext(chunks)


async def test_a_song_is_not_resumed_with_other_weights(
    triton: FakeTriton, generation: Generation
) -> None:
    triton.cuts = [EngineUnavailable("killed")]
    chunks = generation.generate(ResumeState(MODEL, REQUEST), ignore)
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
        await generate(generation)
    assert triton.requests == []


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
