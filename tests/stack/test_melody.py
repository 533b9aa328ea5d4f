"""A song follows a melody, over HTTP and over Triton."""

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import numpy as np
import pytest
import soundfile
from tritonclient.utils import InferenceServerException

from tests.conftest import ROOT, TIMEOUT, Stack, descendants, eventually, gone, until
from tests.fake_hub import FakeHub
from tests.musicgen_engine.core.reference import write_separator
from tests.stack.client import chunks, model_status, stream
from tests.stack.songs import code, post

MODEL = "musicgen-melody"
SEPARATOR = "musicgen_engine.core.separator"
TEXTS = {"model": MODEL, "prompt": "slow piano", "duration": "40", "seed": "5", "separate": "false"}
LONG = {"PROMPT": "slow piano", "DURATION": 0.5, "SEED": 5, "SEPARATE": False}


@pytest.fixture(scope="module")
def stack(stack: Stack, hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack with a small model of random weights that takes a melody, and a small separator."""
    folder = tmp_path_factory.mktemp("melody")
    command = [sys.executable, "-m", "training.random_checkpoint", str(folder / "lm"), "--melody"]
    subprocess.run(command, cwd=ROOT, check=True)
    (folder / "separator").mkdir()
    write_separator(folder / "separator" / "955717e8.safetensors")
    hub.repos |= {f"facebook/{MODEL}": folder / "lm", "adefossez/HTDemucs": folder / "separator"}
    (stack.repository / MODEL).symlink_to(ROOT / "model_repository" / MODEL)
    until(lambda: MODEL in {model["id"] for model in stack.get("/models")[1]["models"]})
    yield stack
    (stack.repository / MODEL).unlink()


def tune(seconds: float) -> Any:
    """float32 [1, samples]: half-second notes."""
    time = np.arange(round(seconds * 32_000)) / 32_000
    notes = np.random.default_rng(3).integers(0, 12, int(seconds * 2) + 1)
    pitch = 261.63 * 2 ** (notes[(time * 2).astype(int)] / 12)
    return np.sin(2 * np.pi * np.cumsum(pitch) / 32_000).astype(np.float32)[None] * 0.3


def flac(audio: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, audio.T, 32_000, format="FLAC")
    return file.getvalue()


TUNE = tune(3)


async def follow(
    stack: Stack, on_part: Callable[[int], None] = lambda _: None, name: str = "", **texts: Any
) -> tuple[int, bytes]:
    """Status and body of a song that follows TUNE; `on_part` gets the bytes so far."""
    form = aiohttp.FormData({**TEXTS, **texts})
    form.add_field("melody", flac(TUNE), filename="tune.flac")
    data, headers = b"", {"X-Request-Id": name} if name else {}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(3 * TIMEOUT)) as session,
        session.post(f"{stack.url}/generate", data=form, headers=headers) as answer,
    ):
        async for part in answer.content.iter_any():
            data += part
            on_part(len(data))
        return answer.status, data


async def test_a_song_with_a_melody_survives_the_engine_to_the_byte(stack: Stack) -> None:
    """It has two windows, each with its part of the melody; one engine dies in each."""
    status, whole = await follow(stack)
    assert status == 200
    killed: list[int] = []
    seconds = [1, 20]

    def kill(size: int) -> None:
        if seconds and size > seconds[0] * 64_000:
            del seconds[0]
            killed.append(stack.engine(MODEL))
            os.kill(killed[-1], signal.SIGKILL)

    assert await follow(stack, kill) == (200, whole)
    assert len({*killed, stack.engine(MODEL)}) == 3


def test_the_chroma_that_comes_out_stands_for_the_audio(stack: Stack) -> None:
    first = chunks(stream(stack, MODEL, {**LONG, "MELODY": TUNE, "STREAM": True}))[0]
    chroma = first.as_numpy("CHROMA")
    assert chroma.shape == (1, 235) and chroma.dtype == np.int32 and len(np.unique(chroma)) > 2
    [with_audio] = stream(stack, MODEL, {**LONG, "MELODY": TUNE})
    [with_chroma] = stream(stack, MODEL, {**LONG, "CHROMA": chroma})
    [without] = stream(stack, MODEL, LONG)
    assert np.array_equal(with_audio.as_numpy("AUDIO"), with_chroma.as_numpy("AUDIO"))
    assert not np.array_equal(with_audio.as_numpy("CODES"), without.as_numpy("CODES"))
    assert without.as_numpy("CHROMA").shape == (0, 0)


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (MODEL, {"CHROMA": np.zeros((2, 235))}, "CHROMA has the shape [2, 235]; give [1, 235]"),
        (MODEL, {"CHROMA": np.full((1, 235), 12)}, "CHROMA holds 12; give 0 to 11"),
        (MODEL, {"MELODY": TUNE, "CHROMA": np.zeros((1, 235))}, "MELODY comes with chroma;"),
        (MODEL, {"MELODY": TUNE[:, :100]}, "MELODY lasts 0.003125 s; give 0.02 to 120 s"),
        (MODEL, {"MELODY": TUNE * np.nan}, "MELODY holds NaN"),
        ("musicgen-tiny", {"MELODY": TUNE}, "MELODY is not for this model"),
        ("musicgen-tiny", {"CHROMA": np.zeros((1, 235))}, "CHROMA is not for this model"),
    ],
)
def test_a_melody_that_does_not_fit_is_refused_by_name(
    stack: Stack, model: str, values: dict[str, Any], message: str
) -> None:
    [error] = stream(stack, model, {**LONG, **values})
    assert isinstance(error, InferenceServerException)
    assert f"[invalid_input] {message}" in str(error)


async def test_every_model_says_whether_it_takes_a_melody(stack: Stack) -> None:
    assert (stack.model(MODEL)["melody"], stack.model("musicgen-tiny")["melody"]) == (True, False)
    await follow(stack, duration="0.1")
    assert model_status(stack, MODEL)["melody"] is True
    assert model_status(stack)["melody"] is False


async def test_an_upload_that_a_model_cannot_follow_is_refused_by_name(stack: Stack) -> None:
    status, body = await follow(stack, duration="1", model="musicgen-tiny")
    assert (status, *code(body)) == (422, "invalid_field", "melody")


async def separator(stack: Stack) -> int:
    """The separator's process, once it is there."""

    def running() -> list[int]:
        below = descendants(stack.process.pid).items()
        return [pid for pid, line in below if SEPARATOR in line]

    return int((await asyncio.to_thread(until, running))[0])


async def test_a_melody_comes_out_of_its_mix_though_the_engine_dies(stack: Stack) -> None:
    name = "a-melody-in-a-mix"
    song = asyncio.create_task(follow(stack, duration="1", separate="true", name=name))
    job = await separator(stack)

    async def separating() -> bool:
        state = (await asyncio.to_thread(stack.get, f"/generations/{name}"))[1]
        return (state["state"], state["position"]) == ("separating", 1)

    await eventually(separating)
    assert (await follow(stack, duration="1"))[0] == 200  # another one does not wait
    os.kill(stack.engine(MODEL), signal.SIGKILL)
    until(lambda: gone(job))
    status, killed = await song
    assert status == 200
    assert await follow(stack, duration="1", separate="true") == (200, killed)
    assert (await follow(stack, duration="1"))[1] != killed


MIX: dict[str, Any] = {"duration": "40", "separate": "true"}  # two windows


@pytest.fixture(scope="module")
def mixed(stack: Stack) -> tuple[int, bytes]:
    """Status and body of a song with a melody in a mix."""
    return asyncio.run(follow(stack, **MIX))


@pytest.mark.slow
@pytest.mark.parametrize("victim", [Stack.engine, Stack.stub], ids=["engine", "stub"])
async def test_a_song_with_a_mix_survives_to_the_byte(
    stack: Stack, mixed: tuple[int, bytes], victim: Callable[[Stack, str], int]
) -> None:
    """The process dies while the first melody is taken out of its mix, while the song plays and the
    next window's is taken out, and at the end of the first window."""
    seconds = [1, 20]

    def kill(size: int) -> None:
        if seconds and size > seconds[0] * 64_000:
            del seconds[0]
            os.kill(victim(stack, MODEL), signal.SIGKILL)

    song = asyncio.create_task(follow(stack, kill, **MIX))
    await separator(stack)
    await asyncio.to_thread(lambda: os.kill(victim(stack, MODEL), signal.SIGKILL))
    assert await song == mixed and mixed[0] == 200
    assert not seconds


async def test_a_separator_that_is_killed_fails_its_song_alone(stack: Stack) -> None:
    song = asyncio.create_task(follow(stack, duration="1", separate="true"))
    job = await separator(stack)
    os.kill(job, signal.SIGKILL)
    status, body = await song
    assert (status, *code(body)) == (500, "internal", None)
    assert b"try again, or send separate: false" in body
    assert (await follow(stack, duration="1"))[0] == 200


async def test_twenty_melodies_at_once_are_bounded(stack: Stack) -> None:
    """Another song does not wait for them."""
    songs = [
        asyncio.create_task(follow(stack, duration="1", seed=str(n), separate="true"))
        for n in range(20)
    ]

    def refused() -> list[int]:
        statuses = [song.result()[0] for song in songs if song.done()]
        return [status for status in statuses if status != 200]

    await asyncio.to_thread(until, lambda: len(refused()) >= 5)
    assert {*refused()} == {429}
    other = {"model": MODEL, "prompt": "slow piano", "duration": 1}
    assert (await post(stack, other))[0] == 200
    for song in songs:
        song.cancel()
    await asyncio.wait(songs)
