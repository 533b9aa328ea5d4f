"""POST /generate returns a song as a file, or an error that names the field."""

import asyncio
import io
from typing import Any

import aiohttp
import numpy as np
import pytest
import soundfile

from tests.conftest import Stack, eventually
from tests.stack.client import ending, model_status, stream
from tests.stack.songs import GOOD, NOISE, code, post, samples, song

FOREVER = {**GOOD, "duration": 300}  # to be cancelled


def audible(pcm: Any) -> bool:
    return bool(np.sqrt(np.mean((pcm / 32768.0) ** 2)) > 0.01)


async def test_the_response_is_a_whole_wav(stack: Stack) -> None:
    pcm = await song(stack, GOOD)
    assert pcm.shape == (32_000, 1)
    assert audible(pcm)


async def test_a_song_is_sent_while_it_is_generated(stack: Stack) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{stack.url}/generate", json=FOREVER) as answer,
    ):
        assert int(answer.headers["Content-Length"]) > 300 * 64_000
        await answer.content.readexactly(32_000)  # half a second
        assert await busy(stack) == 1
        request_id = answer.headers["X-Request-Id"]
    assert (await ended(stack, request_id)).startswith("[cancelled]")


@pytest.mark.parametrize(
    "seconds", [2.5, pytest.param(31.08, marks=pytest.mark.slow, id="beyond-a-window")]
)
async def test_a_song_equals_that_of_triton(stack: Stack, seconds: float) -> None:
    settings = {"seed": 5, "temperature": 1.5, "top_k": 40, "cfg_coef": 2.5, "extend_stride": 10}
    pcm = await song(stack, {**GOOD, "duration": seconds, **settings})
    assert len(pcm) == round(seconds * 32_000)
    inputs = {name.upper(): value for name, value in settings.items()}
    (answer,) = await asyncio.to_thread(
        stream, stack, "musicgen-tiny", {"PROMPT": GOOD["prompt"], "DURATION": seconds, **inputs}
    )
    expected = np.rint(answer.as_numpy("AUDIO").clip(-1, 1) * 32_767)
    assert np.abs(pcm.T - expected).max() <= 1  # equal but for rounding


async def test_a_seed_gives_the_same_song_alone_and_in_a_batch(stack: Stack) -> None:
    body = {**NOISE, "prompt": "slow piano", "duration": 3, "seed": 0}
    alone = await post(stack, body)
    mates = [asyncio.create_task(post(stack, {**body, "seed": n})) for n in (1, 2, 3)]
    assert (await post(stack, body))[2] == alone[2]
    assert alone[1]["X-Seed"] == "0"
    assert alone[2] not in [(await mate)[2] for mate in mates]


@pytest.mark.parametrize("setting", [{"temperature": 0}, {"top_k": 1}])
async def test_settings_reach_the_engine(stack: Stack, setting: dict[str, float]) -> None:
    body = {**NOISE, "prompt": "slow piano", **setting}
    songs = [await song(stack, {**body, "seed": seed}) for seed in (1, 2)]
    assert np.array_equal(*songs)  # the seed has no effect


async def test_every_format_is_the_same_music(stack: Stack) -> None:
    body = {**GOOD, "seed": 4}
    expected = await song(stack, body)
    for format in ("flac", "ogg", "mp3"):
        status, headers, data = await post(stack, {**body, "format": format})
        assert status == 200 and f'.{format}"' in headers["Content-Disposition"]
        heard, rate = soundfile.read(io.BytesIO(data), always_2d=True)
        assert len(heard) / rate == pytest.approx(1, abs=0.1)
        if format == "flac":
            assert np.array_equal(np.rint(heard * 32_768), expected)
        accepted = await post(stack, body, headers={"Accept": headers["Content-Type"]})
        assert accepted[1]["Content-Type"] == headers["Content-Type"]


async def test_a_song_continues_a_file(stack: Stack) -> None:
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
async def test_a_model_is_found_with_and_without_its_owner(stack: Stack, spelling: str) -> None:
    assert len(await song(stack, {**GOOD, "model": spelling})) == 32_000


@pytest.mark.parametrize(("seconds", "frames"), [(0.001, 1), (0.7, 35), (1.08, 54)])
async def test_the_length_is_exact_to_the_frame(stack: Stack, seconds: float, frames: int) -> None:
    assert len(await song(stack, {**GOOD, "duration": seconds})) == frames * 640


async def test_a_folder_with_a_checkpoint_is_a_model(stack: Stack) -> None:
    pcm = await song(stack, {**NOISE, "prompt": "slow piano"})
    assert pcm.shape == (16_000, 2)
    assert audible(pcm)
    assert not np.array_equal(pcm[:, 0], pcm[:, 1])


async def test_prompts_matter_and_any_text_is_a_prompt(stack: Stack) -> None:
    prompts = ["drums", "flute", "🎹\0ピアノ \u202e", "x" * 2000]
    songs = [await song(stack, {**NOISE, "prompt": prompt}) for prompt in prompts]
    assert all(audible(pcm) for pcm in songs)
    assert not np.array_equal(songs[0], songs[1])


async def test_fifty_songs_in_a_row_are_whole(stack: Stack) -> None:
    for number in range(50):
        pcm = await song(stack, {**NOISE, "prompt": f"song {number}", "duration": 0.2})
        assert pcm.shape == (6_400, 2) and audible(pcm)


async def test_twenty_songs_at_once_are_whole(stack: Stack) -> None:
    wanted: list[dict[str, Any]] = [
        {**NOISE, "prompt": f"song {n}", "duration": 0.5 + n / 20} for n in range(20)
    ]
    songs = await asyncio.gather(*(song(stack, body) for body in wanted))
    for body, pcm in zip(wanted, songs, strict=True):
        assert len(pcm) == round(body["duration"] * 50) * 640
        assert audible(pcm)


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
        pytest.param(b" " * 1_100_000, 413, ("body_too_large", None), id="too large"),
    ],
)
async def test_bad_input_is_named(
    stack: Stack, body: Any, status: int, expected: tuple[str, str | None]
) -> None:
    answer = await post(stack, body)
    assert (answer[0], code(answer[2])) == (status, expected)


async def test_another_content_type_is_refused(stack: Stack) -> None:
    status, _, body = await post(stack, GOOD, headers={"Content-Type": "text/plain"})
    assert (status, code(body)) == (415, ("unsupported_media_type", None))


@pytest.mark.parametrize(
    ("path", "method", "status", "expected"),
    [("/nothing", "GET", 404, "not_found"), ("/generate", "GET", 405, "method_not_allowed")],
)
async def test_a_wrong_path_or_method_is_refused(
    stack: Stack, path: str, method: str, status: int, expected: str
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, stack.url + path) as answer,
    ):
        assert (answer.status, code(await answer.read())[0]) == (status, expected)


async def busy(stack: Stack) -> int:
    """Songs in the engine, waiting or running."""
    status = await asyncio.to_thread(model_status, stack)
    return int(status["queued"]) + int(status["running"])


async def ended(stack: Stack, request_id: str) -> str:
    """How the engine ended the song."""
    return await asyncio.to_thread(ending, stack, request_id)


async def until_busy(stack: Stack, songs: int) -> None:
    async def enough() -> bool:
        return await busy(stack) >= songs

    await eventually(enough)


async def test_a_song_leaves_the_engine_before_its_response_ends(stack: Stack) -> None:
    for _ in range(3):
        await song(stack, {**GOOD, "duration": 0.5})
        assert await busy(stack) == 0


async def test_a_closed_connection_cancels_the_song(stack: Stack) -> None:
    headers = {"X-Request-Id": "closed-connection"}
    long = asyncio.create_task(post(stack, FOREVER, headers=headers))
    await until_busy(stack, 1)
    long.cancel()
    assert (await ended(stack, "closed-connection")).startswith("[cancelled]")


async def test_a_full_queue_says_when_to_ask_again(stack: Stack) -> None:
    await song(stack, GOOD)  # so that the model is loaded
    room = (await asyncio.to_thread(model_status, stack))["slots"] + 32
    songs = [asyncio.create_task(post(stack, FOREVER)) for _ in range(room + 7)]
    refused = 0
    try:
        for answer in asyncio.as_completed(songs):
            code_, headers, body = await answer
            assert (code_, code(body)) == (429, ("queue_full", None))
            assert int(headers["Retry-After"]) >= 1
            refused += 1
            if refused == 7:
                break
    finally:
        for task in songs:
            task.cancel()

    async def idle() -> bool:
        return not await busy(stack)

    await eventually(idle)
