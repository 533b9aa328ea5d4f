"""A song follows a melody, over HTTP and over Triton."""

import asyncio
import io
import os
import shutil
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

from tests.conftest import ROOT, TIMEOUT, Stack, until
from tests.stack.client import chunks, model_status, stream
from tests.stack.songs import code, post

MODEL = "my-melody"
TEXTS = {"model": MODEL, "prompt": "slow piano", "duration": "40", "seed": "5", "separate": "false"}
LONG = {"PROMPT": "slow piano", "DURATION": 0.5, "SEED": 5, "SEPARATE": False}


@pytest.fixture(scope="module")
def stack(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack with a small model that takes a melody, of random weights."""
    folder = tmp_path_factory.mktemp("melody") / MODEL
    command = [sys.executable, "-m", "training.random_checkpoint", str(folder / "1"), "--melody"]
    subprocess.run(command, cwd=ROOT, check=True)
    tiny = stack.repository / "musicgen-tiny"
    takes = 'parameters { key: "takes" value { string_value: "melody" } }\n'
    (folder / "config.pbtxt").write_text((tiny / "config.pbtxt").read_text() + takes)
    shutil.copy(tiny / "1" / "model.py", folder / "1")
    (stack.repository / MODEL).symlink_to(folder)
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
    stack: Stack, on_part: Callable[[int], None] = lambda _: None, **texts: Any
) -> tuple[int, bytes]:
    """Status and body of a song that follows TUNE; `on_part` gets the bytes so far."""
    form = aiohttp.FormData({**TEXTS, **texts})
    form.add_field("melody", flac(TUNE), filename="tune.flac")
    data = b""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(3 * TIMEOUT)) as session,
        session.post(f"{stack.url}/generate", data=form) as answer,
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
        (MODEL, {"MELODY": TUNE, "SEPARATE": True}, "SEPARATE is true;"),
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


@pytest.mark.parametrize(
    ("texts", "field"), [({"model": "musicgen-tiny"}, "melody"), ({"separate": "true"}, "separate")]
)
async def test_an_upload_that_a_model_cannot_follow_is_refused_by_name(
    stack: Stack, texts: dict[str, Any], field: str
) -> None:
    status, body = await follow(stack, duration="1", **texts)
    assert (status, *code(body)) == (422, "invalid_field", field)


async def test_twenty_melodies_at_once_are_bounded(stack: Stack) -> None:
    """Another song does not wait for them."""
    songs = [asyncio.create_task(follow(stack, duration="1", seed=str(n))) for n in range(20)]
    other = await post(stack, {"prompt": "piano", "duration": 1, "model": "musicgen-tiny"})
    answers = await asyncio.gather(*songs)
    assert other[0] == 200
    assert {status for status, _ in answers} <= {200, 429}
    assert sum(status == 200 for status, _ in answers) >= 8
