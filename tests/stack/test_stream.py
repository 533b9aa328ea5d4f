"""A variant sends progress, audio and codes in a stream, over gRPC and HTTP."""

import asyncio
import json
import math
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.conftest import TIMEOUT, Stack, needs_native
from tests.stack.client import (
    FOREVER,
    SHORT,
    SONG,
    chunks,
    ending,
    front,
    joined,
    model_status,
    status,
    stream,
    tensors,
    zeros,
)


def test_a_request_without_stream_gets_one_response(stack: Stack, whole_song: Any) -> None:
    assert whole_song.as_numpy("AUDIO").shape == (1, 125 * 640)
    assert whole_song.as_numpy("CODES").shape == (4, 125)
    assert whole_song.as_numpy("SAMPLE_RATE").tolist() == [32_000]
    assert whole_song.as_numpy("FRAMES").tolist() == [125]
    assert whole_song.as_numpy("SEED").tolist() == [7]
    revision = model_status(stack)["revision"]
    assert whole_song.as_numpy("REVISION").tolist() == [revision.encode()]
    assert status(whole_song) == {"state": "done", "frames": 125, "total_frames": 125}


def test_a_stream_is_the_same_song_in_short_chunks(
    whole_song: Any, streamed_song: list[Any], song_chunks: list[Any]
) -> None:
    assert [chunk.as_numpy("AUDIO").shape[1] for chunk in song_chunks] == 5 * [16_000]
    for name in ("AUDIO", "CODES"):
        assert np.array_equal(joined(song_chunks, name), whole_song.as_numpy(name))
    states = [status(answer)["state"] for answer in streamed_song]
    assert states[0] in ("queued", "generating") and states[-1] == "done"


def test_codes_are_ahead_of_their_audio_until_the_end(song_chunks: list[Any]) -> None:
    samples = np.cumsum([chunk.as_numpy("AUDIO").shape[1] for chunk in song_chunks])
    frames = np.cumsum([chunk.as_numpy("CODES").shape[1] for chunk in song_chunks])
    assert (frames[:-1] * 640 > samples[:-1]).all()
    assert (frames[-1], samples[-1]) == (125, 125 * 640)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("received", [1, 2])
def test_a_song_continues_where_its_stream_broke_off(
    stack: Stack, song_chunks: list[Any], received: int, streamed: bool
) -> None:
    first, missing = song_chunks[:received], song_chunks[received:]
    codes, start = joined(first, "CODES"), joined(first, "AUDIO").shape[1]
    request = {**SONG, "CODES": codes, "START": start, "STREAM": streamed}
    rest = chunks(stream(stack, "musicgen-tiny", request))
    assert np.array_equal(joined(rest, "CODES"), joined(missing, "CODES"))
    assert np.allclose(joined(rest, "AUDIO"), joined(missing, "AUDIO"), rtol=0, atol=1e-4)
    assert rest[-1].as_numpy("FRAMES").tolist() == [125]  # of the whole song
    assert status(rest[-1]) == {"state": "done", "frames": 125, "total_frames": 125}


@pytest.mark.parametrize(
    ("frames", "start"),
    [
        (0, 0),
        (60, 0),
        (60, 12_345),  # within a frame
        (60, 60 * 640),
        (125, 0),  # all codes: none is left
        (125, 70_001),
        (125, 125 * 640),  # no audio is left either
    ],
)
def test_a_continued_song_repeats_and_loses_nothing(
    stack: Stack, whole_song: Any, frames: int, start: int
) -> None:
    codes, audio = whole_song.as_numpy("CODES"), whole_song.as_numpy("AUDIO")
    again = {**SONG, "CODES": codes[:, :frames], "START": start}
    for rest in (*stream(stack, "musicgen-tiny", again), front(stack, again)):
        assert np.array_equal(rest.as_numpy("CODES"), codes[:, frames:])
        assert rest.as_numpy("AUDIO").shape == audio[:, start:].shape
        assert np.allclose(rest.as_numpy("AUDIO"), audio[:, start:], rtol=0, atol=1e-4)
        assert rest.as_numpy("FRAMES").tolist() == [125]
        assert status(rest)["state"] == "done"


def test_a_chunk_has_at_most_a_second_of_audio(stack: Stack) -> None:
    answers = stream(stack, "musicgen-tiny", {**SONG, "DURATION": 5, "STREAM": True})
    assert max(chunk.as_numpy("AUDIO").shape[1] for chunk in chunks(answers)) <= 32_000


def test_seed_and_settings_decide_the_song(stack: Stack) -> None:
    def codes(**settings: Any) -> Any:
        (answer,) = stream(stack, "musicgen-tiny", {**SONG, "DURATION": 1.0, **settings})
        return answer.as_numpy("CODES")

    same = codes()
    assert np.array_equal(same, codes())
    for settings in (
        {"SEED": 8},
        {"PROMPT": "fast drums"},
        {"TEMPERATURE": 0},
        {"TOP_K": 1},
        {"TOP_P": 0.01},
        {"CFG_COEF": 1},
    ):
        assert not np.array_equal(same, codes(**settings)), settings


def test_the_response_has_the_seed_that_was_drawn(stack: Stack) -> None:
    request = {"PROMPT": "", "DURATION": 0.5}
    (first,) = stream(stack, "musicgen-tiny", request)
    seed = int(first.as_numpy("SEED")[0])
    (again,) = stream(stack, "musicgen-tiny", {**request, "SEED": seed})
    assert np.array_equal(first.as_numpy("AUDIO"), again.as_numpy("AUDIO"))


@needs_native
def test_a_request_without_inputs_gets_the_model_status(stack: Stack) -> None:
    model = model_status(stack)
    assert model["state"] == "ready"
    assert (model["device"], model["precision"], model["backend"]) in [
        ("cpu", "float32", "native"),
        ("cuda", "float16", "eager"),
    ]
    assert model["fallback"] is None
    assert (model["channels"], model["codebooks"], model["sample_rate"]) == (1, 4, 32_000)
    assert model["slots"] >= 1


def tone(seconds: int) -> Any:
    """[1, samples] at 32 kHz"""
    return 0.3 * np.sin(np.arange(32_000 * seconds) / 32_000 * 2_764.6)[None]


OUT_OF_RANGE: dict[str, list[float]] = {
    "DURATION": [-1, 0, math.nan, math.inf],
    "SEED": [-2],
    "TEMPERATURE": [-1, 101, math.nan, math.inf, -math.inf],
    "TOP_K": [-1, 1_000_001],
    "TOP_P": [-0.1, 1.1, math.nan, math.inf],
    "CFG_COEF": [-1, 101, math.nan, math.inf, -math.inf],
    "EXTEND_STRIDE": [-1, 0, 0.5, 30, 61, math.nan, math.inf],
}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"DURATION": 1.0}, "PROMPT is missing; give "),
    ({"PROMPT": "x"}, "DURATION is missing; give "),
    *(
        ({**SONG, name: value}, f"{name} is ")
        for name, values in OUT_OF_RANGE.items()
        for value in values
    ),
    ({**SONG, "CODES": zeros(8, 10)}, "CODES has 8 codebooks; this model has 4"),
    ({**SONG, "CODES": zeros(0, 10)}, "CODES has the shape [0, 10]; give [codebooks, frames]"),
    ({**SONG, "CODES": zeros(4, 126)}, "CODES has 126 frames; the song has 125"),
    ({**SONG, "CODES": zeros(4, 10) - 1}, "CODES holds -1; give 0 "),
    ({**SONG, "CODES": zeros(4, 10) + 1024}, "CODES holds 1024; give 0 to 1023"),
    ({**SONG, "PROMPT_AUDIO": tone(3)}, "PROMPT_AUDIO has 150 frames; the song has 125 with it"),
    ({**SONG, "PROMPT_AUDIO": tone(0)}, "PROMPT_AUDIO lasts 0 s; give 0.02 to 30 s"),
    (
        {**SONG, "PROMPT_AUDIO": tone(1), "CODES": zeros(4, 9)},
        "PROMPT_AUDIO comes with codes; send one of them",
    ),
    (
        {**SONG, "PROMPT_AUDIO": tone(1), "PROMPT_SAMPLE_RATE": 44_101},
        "PROMPT_SAMPLE_RATE is 44101; give a multiple of 25 from 8000 to 192000",
    ),
    ({**SONG, "START": 1}, "START is 1; give 0 to 0"),
    ({**SONG, "REVISION": 65 * "x"}, "REVISION has 65 characters; shorten it to 64"),
    ({**SONG, "CODES": zeros(4, 10), "START": 6401}, "START is 6401; give 0 to 6400"),
    ({**SONG, "CODES": zeros(4, 10), "START": -1}, "START is -1; give 0 to "),
]


def test_a_bad_input_is_named_and_disturbs_no_other_song(stack: Stack) -> None:
    song = {**SONG, "DURATION": 4}
    (alone,) = stream(stack, "musicgen-tiny", song)
    with ThreadPoolExecutor(1) as pool:
        mate = pool.submit(stream, stack, "musicgen-tiny", song)
        for values, text in BAD:
            (error,) = stream(stack, "musicgen-tiny", values)
            assert isinstance(error, InferenceServerException), values
            assert error.message().startswith(f"[invalid_input] {text}"), values
        (answer,) = mate.result()
    assert np.array_equal(answer.as_numpy("AUDIO"), alone.as_numpy("AUDIO"))


def test_a_stream_gets_an_error_as_data_before_its_text(stack: Stack) -> None:
    failed, error = stream(stack, "musicgen-tiny", {**SONG, "DURATION": 0, "STREAM": True})
    data = status(failed)
    assert data.keys() == {"state", "code", "message", "field", "limits", "retry_after"}
    assert (data["state"], data["code"], data["field"]) == ("failed", "invalid_field", "duration")
    assert data["message"].startswith("duration is 0; give ")
    assert isinstance(error, InferenceServerException)
    assert error.message().startswith("[invalid_input] DURATION is 0; give ")


def test_other_weights_do_not_continue_a_song(stack: Stack) -> None:
    (error,) = stream(stack, "musicgen-tiny", {**SONG, "REVISION": "0123456789ab"})
    assert isinstance(error, InferenceServerException)
    assert error.message().startswith("[weights_changed] REVISION: '0123456789ab' is not here")


@pytest.mark.parametrize("through_front", [False, True])
def test_a_song_continues_audio_and_returns_its_codes(stack: Stack, through_front: bool) -> None:
    song = {**SONG, "PROMPT_AUDIO": tone(1)[:, :26_460], "PROMPT_SAMPLE_RATE": 22_050}
    answer = front(stack, song) if through_front else stream(stack, "musicgen-tiny", song)[0]
    assert answer.as_numpy("AUDIO").shape == (1, 125 * 640)
    codes = answer.as_numpy("CODES")
    assert codes.shape == (4, 125)
    again = {**SONG, "CODES": codes[:, :60], "START": 60 * 640}
    (rest,) = stream(stack, "musicgen-tiny", again)
    assert np.array_equal(rest.as_numpy("CODES"), codes[:, 60:])


@pytest.mark.parametrize("shape", [(4,), (1, 4, 10)])
def test_codes_of_another_rank_are_refused_by_triton(stack: Stack, shape: tuple[int, ...]) -> None:
    (error,) = stream(stack, "musicgen-tiny", {**SONG, "CODES": np.zeros(shape, np.int32)})
    assert isinstance(error, InferenceServerException)
    assert "'CODES'" in error.message()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("TEMPERATURE", 0),
        ("TEMPERATURE", 0.01),
        ("TEMPERATURE", 100),
        ("TOP_K", 0),
        ("TOP_K", 1),
        ("TOP_P", 0.001),
        ("TOP_P", 1),
        ("CFG_COEF", 0),
        ("CFG_COEF", 1),
        ("CFG_COEF", 20),
        ("CFG_COEF", 100),
    ],
)
def test_a_setting_at_its_limit_makes_music(stack: Stack, setting: str, value: float) -> None:
    (answer,) = stream(stack, "musicgen-tiny", {**SHORT, setting: value})
    audio, codes = answer.as_numpy("AUDIO"), answer.as_numpy("CODES")
    assert audio.shape == (1, 16_000) and np.isfinite(audio).all()
    assert codes.shape == (4, 25) and codes.min() >= 0 and codes.max() < 1024


def test_top_k_beyond_the_vocabulary_keeps_every_token(stack: Stack) -> None:
    def codes(top_k: int) -> Any:
        (answer,) = stream(stack, "musicgen-tiny", {**SHORT, "TOP_K": top_k})
        return answer.as_numpy("CODES")

    every = codes(0)
    for top_k in (1024, 1025, 1_000_000):
        assert np.array_equal(codes(top_k), every)


def test_http_generate_stream_returns_json(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.triton_http}/v2/models/musicgen-tiny/generate_stream"
    body = json.dumps({"PROMPT": "x", "DURATION": 0.02, "SEED": 3}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=TIMEOUT) as response:
        event = json.loads(response.read().decode().removeprefix("data: "))
    assert (event["FRAMES"], event["SEED"], len(event["AUDIO"])) == (1, 3, 640)
    assert len(event["CODES"]) == 4


async def test_a_cancelled_stream_stops_its_song(stack: Stack) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {
            "model_name": "musicgen-tiny",
            "inputs": tensors(triton_aio, {**FOREVER, "STREAM": True}),
            "request_id": "cancelled-stream",
        }

    async with triton_aio.InferenceServerClient(f"127.0.0.1:{stack.triton_grpc}") as client:
        answers = client.stream_infer(requests(), stream_timeout=TIMEOUT)
        async for result, _ in answers:
            if status(result)["state"] == "generating":
                answers.cancel()
                break
        message = await asyncio.to_thread(ending, stack, "cancelled-stream")
    assert message.startswith("[cancelled]")


def test_an_unknown_model_is_an_http_error(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.triton_http}/v2/models/nothing/generate_stream"
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(urllib.request.Request(url, b"{}"), timeout=TIMEOUT)
