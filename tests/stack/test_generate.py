"""POST /generate, as a program meets it: text in, a whole WAV out."""

import asyncio
import io
import json
import wave
from typing import Any

import aiohttp
import numpy as np
import pytest
import soundfile
from tritonclient.utils import InferenceServerException

from tests.conftest import Stack, eventually
from tests.stack.client import status, stream

GOOD = {"prompt": "slow piano", "duration": 1}
# In stereo, with random weights: it plays noise, which is never silent. Music may begin softly.
NOISE = {"model": "my-music", "duration": 1}


async def post(stack: Stack, body: Any, **options: Any) -> tuple[int, Any, bytes]:
    """Status, headers and body of the answer; `body` is JSON unless it is bytes."""
    data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
    headers = {"Content-Type": "application/json", **options.pop("headers", {})}
    timeout = aiohttp.ClientTimeout(120)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(f"{stack.url}/generate", data=data, headers=headers, **options) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


def samples(wav: bytes) -> Any:
    """int16 [samples, channels], read by the standard library and checked against libsndfile."""
    with wave.open(io.BytesIO(wav)) as reader:
        assert (reader.getframerate(), reader.getsampwidth()) == (32_000, 2)
        pcm = np.frombuffer(reader.readframes(reader.getnframes()), "<i2")
        pcm = pcm.reshape(-1, reader.getnchannels())
    other, rate = soundfile.read(io.BytesIO(wav), dtype="int16", always_2d=True)
    assert rate == 32_000 and np.array_equal(pcm, other)
    return pcm


async def song(stack: Stack, body: dict[str, Any]) -> Any:
    code, headers, wav = await post(stack, body)
    assert code == 200, wav
    assert headers["Content-Type"] == "audio/wav"
    assert int(headers["Content-Length"]) == len(wav)
    assert ".wav" in headers["Content-Disposition"]
    return samples(wav)


def audible(pcm: Any) -> bool:
    return bool(np.sqrt(np.mean((pcm / 32768.0) ** 2)) > 0.01)


async def test_the_answer_is_a_whole_wav(stack: Stack) -> None:
    pcm = await song(stack, GOOD)
    assert pcm.shape == (32_000, 1)
    assert audible(pcm)


async def test_it_comes_while_it_is_made(stack: Stack) -> None:
    body = {**GOOD, "duration": 120}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{stack.url}/generate", json=body) as answer,
    ):
        assert int(answer.headers["Content-Length"]) > 120 * 64_000
        await answer.content.readexactly(32_000)  # half a second
        assert await busy(stack) == 1
    await until_idle(stack)  # and whoever has heard enough stops it


async def test_it_is_what_triton_makes_sample_for_sample(stack: Stack) -> None:
    settings = {"seed": 5, "temperature": 1.5, "top_k": 40, "cfg_coef": 2.5, "extend_stride": 10}
    pcm = await song(stack, {**GOOD, "duration": 31, **settings})
    inputs = {name.upper(): value for name, value in settings.items()}
    (answer,) = await asyncio.to_thread(
        stream, stack, "musicgen-tiny", {"PROMPT": GOOD["prompt"], "DURATION": 31.0, **inputs}
    )
    expected = np.rint(answer.as_numpy("AUDIO").clip(-1, 1) * 32_767)
    assert np.abs(pcm.T - expected).max() <= 1  # the stream's samples are so but for rounding


async def test_the_same_seed_is_the_same_song_whatever_else_runs(stack: Stack) -> None:
    body = {**NOISE, "prompt": "slow piano", "duration": 3, "seed": 0}
    alone = await post(stack, body)
    others = [asyncio.create_task(post(stack, {**body, "seed": n})) for n in (1, 2, 3)]
    assert (await post(stack, body))[2] == alone[2]
    assert alone[1]["X-Seed"] == "0"
    assert alone[2] not in [(await other)[2] for other in others]


@pytest.mark.parametrize("setting", [{"temperature": 0}, {"top_k": 1}])
async def test_settings_reach_the_engine(stack: Stack, setting: dict[str, float]) -> None:
    body = {**NOISE, "prompt": "slow piano", **setting}
    songs = [await song(stack, {**body, "seed": seed}) for seed in (1, 2)]
    assert np.array_equal(*songs)  # no chance is left to the seed


@pytest.mark.parametrize("format", ["flac", "ogg", "mp3"])
async def test_every_format_is_the_same_music(stack: Stack, format: str) -> None:
    body = {**GOOD, "duration": 3, "seed": 4}
    expected = await song(stack, body)
    status, headers, data = await post(stack, {**body, "format": format})
    assert status == 200 and f'.{format}"' in headers["Content-Disposition"]
    heard, rate = soundfile.read(io.BytesIO(data), always_2d=True)
    assert len(heard) / rate == pytest.approx(3, abs=0.1)
    if format == "flac":
        assert np.array_equal(np.rint(heard * 32_768), expected)
    accepted = await post(stack, body, headers={"Accept": headers["Content-Type"]})
    assert accepted[1]["Content-Type"] == headers["Content-Type"]


async def test_a_song_goes_on_from_a_file(stack: Stack) -> None:
    beginning = (await post(stack, {**GOOD, "duration": 2, "seed": 1}))[2]

    async def continued(output: str) -> Any:
        form = aiohttp.FormData(
            {"prompt": "slow piano", "duration": "4", "output": output, "seed": "2"}
        )
        form.add_field("audio", beginning, filename="beginning.wav")
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{stack.url}/generate", data=form) as answer,
        ):
            assert answer.status == 200, await answer.text()
            return samples(await answer.read())

    whole, new = await continued("whole"), await continued("new")
    assert (whole.shape, new.shape) == ((4 * 32_000, 1), (2 * 32_000, 1))
    assert np.abs(whole[2 * 32_000 :].astype(int) - new).max() <= 1
    began = samples(beginning)[:, 0] / 32_768
    assert np.corrcoef(began, whole[: 2 * 32_000, 0])[0, 1] > 0.8


@pytest.mark.parametrize("spelling", ["facebook/musicgen-tiny", "musicgen-tiny"])
async def test_models_are_known_with_and_without_their_owner(stack: Stack, spelling: str) -> None:
    assert len(await song(stack, {**GOOD, "model": spelling})) == 32_000


@pytest.mark.parametrize(("seconds", "frames"), [(0.001, 1), (0.7, 35), (31, 1550), (36.08, 1804)])
async def test_length_is_exact_to_the_frame(stack: Stack, seconds: float, frames: int) -> None:
    assert len(await song(stack, {**GOOD, "duration": seconds})) == frames * 640


async def test_a_checkpoint_of_ones_own_is_served_by_adding_a_folder(stack: Stack) -> None:
    pcm = await song(stack, {**NOISE, "prompt": "slow piano"})
    assert pcm.shape == (32_000, 2)
    assert audible(pcm)
    assert not np.array_equal(pcm[:, 0], pcm[:, 1])


async def test_prompts_differ_and_strange_prompts_work(stack: Stack) -> None:
    prompts = ["drums", "flute", "🎹\0ピアノ \u202e", "x" * 2000]
    songs = [await song(stack, {**NOISE, "prompt": prompt}) for prompt in prompts]
    assert all(audible(pcm) for pcm in songs)
    assert not np.array_equal(songs[0], songs[1])


async def test_fifty_songs_one_after_the_other(stack: Stack) -> None:
    for number in range(50):
        pcm = await song(stack, {**NOISE, "prompt": f"song {number}", "duration": 0.5})
        assert pcm.shape == (16_000, 2) and audible(pcm)


async def test_twenty_songs_at_once(stack: Stack) -> None:
    wanted: list[dict[str, Any]] = [
        {**NOISE, "prompt": f"song {n}", "duration": 0.5 + n / 10} for n in range(20)
    ]
    songs = await asyncio.gather(*(song(stack, body) for body in wanted))
    for body, pcm in zip(wanted, songs, strict=True):
        assert len(pcm) == round(body["duration"] * 50) * 640
        assert audible(pcm)


def code(answer: bytes) -> tuple[str, str | None]:
    error = json.loads(answer)["error"]
    assert set(error) == {"code", "message", "field"}
    assert error["message"]
    for internal in ("Traceback", "site-packages", ".py", "/1/", "StatusCode", "Stub"):
        assert internal not in error["message"]
    return error["code"], error["field"]


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (b"no json", 400, ("invalid_json", None)),
        (b'{"prompt": "\xff"}', 400, ("invalid_json", None)),
        ({}, 422, ("invalid_field", "prompt")),
        ({**GOOD, "prompt": " "}, 422, ("invalid_field", "prompt")),
        ({**GOOD, "prompt": "x" * 2001}, 422, ("invalid_field", "prompt")),
        (b'{"prompt": "\\ud800", "duration": 1}', 422, ("invalid_field", "prompt")),
        ({**GOOD, "duration": 0}, 422, ("invalid_field", "duration")),
        ({**GOOD, "duration": -1}, 422, ("invalid_field", "duration")),
        ({**GOOD, "duration": float("nan")}, 422, ("invalid_field", "duration")),
        ({**GOOD, "duration": float("inf")}, 422, ("invalid_field", "duration")),
        ({**GOOD, "duration": 1e9}, 422, ("invalid_field", "duration")),
        ({**GOOD, "duration": "1"}, 422, ("invalid_field", "duration")),
        ({**GOOD, "duration": True}, 422, ("invalid_field", "duration")),
        ({**GOOD, "loud": 1}, 422, ("invalid_field", "loud")),
        ({**GOOD, "model": 5}, 422, ("invalid_field", "model")),
        ({**GOOD, "model": "bach"}, 404, ("unknown_model", "model")),
        ({**GOOD, "model": "musicgen"}, 404, ("unknown_model", "model")),
        ({**GOOD, "model": "../musicgen-tiny"}, 404, ("unknown_model", "model")),
        (b" " * 1_100_000, 413, ("body_too_large", None)),
    ],
)
async def test_bad_input_is_named(
    stack: Stack, body: Any, status: int, expected: tuple[str, str | None]
) -> None:
    answer = await post(stack, body)
    assert (answer[0], code(answer[2])) == (status, expected)


async def test_only_json_is_taken(stack: Stack) -> None:
    status, _, body = await post(stack, GOOD, headers={"Content-Type": "text/plain"})
    assert (status, code(body)) == (415, ("unsupported_media_type", None))


@pytest.mark.parametrize(
    ("path", "method", "status", "expected"),
    [("/nothing", "GET", 404, "not_found"), ("/generate", "GET", 405, "method_not_allowed")],
)
async def test_paths_and_methods_are_checked(
    stack: Stack, path: str, method: str, status: int, expected: str
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, stack.url + path) as answer,
    ):
        assert (answer.status, code(await answer.read())[0]) == (status, expected)


async def engine(stack: Stack) -> dict[str, Any]:
    """What the model's own status tells."""
    (answer,) = await asyncio.to_thread(stream, stack, "musicgen-tiny", {})
    return {} if isinstance(answer, InferenceServerException) else status(answer)


async def busy(stack: Stack) -> int:
    """Songs in the engine, waiting or running."""
    told = await engine(stack)
    return int(told.get("queued", 0)) + int(told.get("running", 0))


async def until_busy(stack: Stack, songs: int) -> None:
    async def enough() -> bool:
        return await busy(stack) >= songs

    await eventually(enough)


async def until_idle(stack: Stack) -> None:
    async def idle() -> bool:
        return not await busy(stack)

    await eventually(idle, 3)  # the songs here would take many times that


async def test_a_song_that_was_heard_to_the_end_is_not_in_the_engine_any_more(
    stack: Stack,
) -> None:
    for _ in range(3):
        await song(stack, GOOD)
        assert await busy(stack) == 0


async def test_a_client_that_goes_away_cancels_its_song(stack: Stack) -> None:
    long = asyncio.create_task(post(stack, {**GOOD, "duration": 300}))
    await until_busy(stack, 1)
    long.cancel()
    await until_idle(stack)


async def test_a_full_queue_says_when_to_come_back(stack: Stack) -> None:
    """All slots are taken and 32 songs wait; those that are not refused are then cancelled."""
    await song(stack, GOOD)  # so that the model is loaded
    room = (await engine(stack))["slots"] + 32
    songs = [asyncio.create_task(post(stack, {**GOOD, "duration": 300})) for _ in range(room + 7)]
    refused = 0
    try:
        for answer in asyncio.as_completed(songs, timeout=60):
            code_, headers, body = await answer
            assert (code_, code(body)) == (429, ("queue_full", None))
            assert int(headers["Retry-After"]) >= 1
            refused += 1
            if refused == 7:
                break
    finally:
        for task in songs:
            task.cancel()
    await until_idle(stack)
