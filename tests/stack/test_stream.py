"""A variant answers in a stream, over gRPC and HTTP: progress, audio and codes in chunks."""

import asyncio
import itertools
import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.conftest import Stack, until
from tests.stack.client import SONG, chunks, front, joined, status, stream, tensors, zeros


def test_a_plain_request_gets_one_response_with_everything(stack: Stack) -> None:
    (answer,) = stream(stack, "musicgen-tiny", SONG)
    assert answer.as_numpy("AUDIO").shape == (1, 125 * 640)
    assert answer.as_numpy("CODES").shape == (4, 125)
    assert answer.as_numpy("SAMPLE_RATE").tolist() == [32_000]
    assert answer.as_numpy("FRAMES").tolist() == [125]
    assert answer.as_numpy("SEED").tolist() == [7]
    (own,) = stream(stack, "musicgen-tiny", {})
    assert answer.as_numpy("REVISION").tolist() == [status(own)["revision"].encode()]
    assert status(answer) == {"state": "done", "frames": 125, "total_frames": 125}


def test_a_stream_is_the_same_song_in_chunks_of_half_a_second_at_first(stack: Stack) -> None:
    (whole,) = stream(stack, "musicgen-tiny", SONG)
    answers = stream(stack, "musicgen-tiny", {**SONG, "STREAM": True})
    pieces = chunks(answers)
    assert [piece.as_numpy("AUDIO").shape[1] for piece in pieces] == 5 * [16_000]
    for name in ("AUDIO", "CODES"):
        assert np.array_equal(joined(pieces, name), whole.as_numpy(name))
    states = [status(answer)["state"] for answer in answers]
    assert states[0] in ("queued", "generating") and states[-1] == "done"


def test_codes_run_ahead_of_their_audio_until_the_end(stack: Stack) -> None:
    pieces = chunks(stream(stack, "musicgen-tiny", {**SONG, "STREAM": True}))
    samples = np.cumsum([piece.as_numpy("AUDIO").shape[1] for piece in pieces])
    frames = np.cumsum([piece.as_numpy("CODES").shape[1] for piece in pieces])
    assert (frames[:-1] * 640 > samples[:-1]).all()
    assert (frames[-1], samples[-1]) == (125, 125 * 640)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("had", [1, 2])
def test_a_song_goes_on_where_its_stream_broke_off(stack: Stack, had: int, streamed: bool) -> None:
    pieces = chunks(stream(stack, "musicgen-tiny", {**SONG, "STREAM": True}))
    codes, start = joined(pieces[:had], "CODES"), joined(pieces[:had], "AUDIO").shape[1]
    held = {**SONG, "CODES": codes, "START": start, "STREAM": streamed}
    rest = chunks(stream(stack, "musicgen-tiny", held))
    assert np.array_equal(joined(rest, "CODES"), joined(pieces[had:], "CODES"))
    assert np.allclose(joined(rest, "AUDIO"), joined(pieces[had:], "AUDIO"), rtol=0, atol=1e-4)
    assert rest[-1].as_numpy("FRAMES").tolist() == [125]  # of the whole song
    assert status(rest[-1]) == {"state": "done", "frames": 125, "total_frames": 125}


@pytest.mark.parametrize(
    ("held", "start"),
    [
        (0, 0),  # nothing
        (60, 0),
        (60, 12_345),  # amid a frame
        (60, 60 * 640),
        (125, 0),  # all codes: the rest has none
        (125, 70_001),
        (125, 125 * 640),  # and no audio either
    ],
)
def test_nothing_is_repeated_or_lost_wherever_a_song_goes_on(
    stack: Stack, held: int, start: int
) -> None:
    (whole,) = stream(stack, "musicgen-tiny", SONG)
    codes, audio = whole.as_numpy("CODES"), whole.as_numpy("AUDIO")
    again = {**SONG, "CODES": codes[:, :held], "START": start}
    for rest in (*stream(stack, "musicgen-tiny", again), front(stack, again)):
        assert np.array_equal(rest.as_numpy("CODES"), codes[:, held:])
        assert rest.as_numpy("AUDIO").shape == audio[:, start:].shape
        assert np.allclose(rest.as_numpy("AUDIO"), audio[:, start:], rtol=0, atol=1e-4)
        assert rest.as_numpy("FRAMES").tolist() == [125]
        assert status(rest)["state"] == "done"


def test_a_stream_is_never_silent_for_two_seconds(stack: Stack) -> None:
    async def gaps() -> list[float]:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{stack.triton_grpc}") as client:

            async def requests() -> AsyncIterator[dict[str, Any]]:
                song = {**SONG, "DURATION": 20, "STREAM": True}
                inputs = tensors(triton_aio, song)
                yield {"model_name": "musicgen-tiny", "inputs": inputs}

            moments = [time.monotonic()]
            async for _, error in client.stream_infer(requests(), stream_timeout=60):
                assert error is None
                moments.append(time.monotonic())
            return [b - a for a, b in itertools.pairwise(moments)]

    assert max(asyncio.run(gaps())) < 2


def test_seed_and_settings_decide_the_song(stack: Stack) -> None:
    def audio(**settings: Any) -> Any:
        return stream(stack, "musicgen-tiny", {**SONG, "DURATION": 2.0, **settings})[-1].as_numpy(
            "AUDIO"
        )

    same = audio()
    assert np.array_equal(same, audio())
    for settings in (
        {"SEED": 8},
        {"PROMPT": "fast drums"},
        {"TEMPERATURE": 0},
        {"TOP_K": 1},
        {"TOP_P": 0.01},
        {"CFG_COEF": 1},
    ):
        assert not np.array_equal(same, audio(**settings)), settings


def test_a_song_without_a_seed_tells_the_one_it_used(stack: Stack) -> None:
    (first,) = stream(stack, "musicgen-tiny", {"PROMPT": "", "DURATION": 0.5})
    seed = int(first.as_numpy("SEED")[0])
    (again,) = stream(stack, "musicgen-tiny", {"PROMPT": "", "DURATION": 0.5, "SEED": seed})
    assert np.array_equal(first.as_numpy("AUDIO"), again.as_numpy("AUDIO"))


def test_an_empty_request_asks_how_the_model_is(stack: Stack) -> None:
    (answer,) = stream(stack, "musicgen-tiny", {})
    told = status(answer)
    assert told["state"] == "ready"
    assert (told["device"], told["precision"]) in [("cpu", "float32"), ("cuda", "float16")]
    assert (told["channels"], told["codebooks"], told["sample_rate"]) == (1, 4, 32_000)
    assert told["slots"] >= 1


def tone(seconds: int) -> Any:
    """[1, samples] at 32 kHz"""
    return 0.3 * np.sin(np.arange(32_000 * seconds) / 32_000 * 2_764.6)[None]


OUT_OF_RANGE: dict[str, list[float]] = {
    "DURATION": [-1, 0, math.nan, math.inf],
    "SEED": [-1],
    "TEMPERATURE": [-1, 0.001, 101, math.nan, math.inf, -math.inf],
    "TOP_K": [-1, 1_000_001],
    "TOP_P": [-0.1, 1.1, math.nan, math.inf],
    "CFG_COEF": [-1, 101, math.nan, math.inf, -math.inf],
    "EXTEND_STRIDE": [-1, 0, 0.5, 30, 61, math.nan, math.inf],
}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"DURATION": 1.0}, "PROMPT: missing"),
    ({"PROMPT": "x"}, "DURATION: missing"),
    *(
        ({**SONG, name: value}, f"{name}: ")
        for name, values in OUT_OF_RANGE.items()
        for value in values
    ),
    ({**SONG, "CODES": zeros(8, 10)}, "CODES: 8 codebooks; this model has 4"),
    ({**SONG, "CODES": zeros(0, 10)}, "CODES: of shape [0, 10]; give [codebooks, frames]"),
    ({**SONG, "CODES": zeros(4, 126)}, "CODES: 126 frames; the song has 125"),
    ({**SONG, "CODES": zeros(4, 10) - 1}, "CODES: -1 is out of range; give 0 "),
    ({**SONG, "CODES": zeros(4, 10) + 1024}, "CODES: 1024 is out of range; give 0 to 1023"),
    ({**SONG, "PROMPT_AUDIO": tone(3)}, "PROMPT_AUDIO: 150 frames; the song has 125 with it"),
    ({**SONG, "PROMPT_AUDIO": tone(0)}, "PROMPT_AUDIO: 0 s long; give 0.02 to 30"),
    ({**SONG, "PROMPT_AUDIO": tone(1), "CODES": zeros(4, 9)}, "PROMPT_AUDIO: together with CODES"),
    (
        {**SONG, "PROMPT_AUDIO": tone(1), "PROMPT_SAMPLE_RATE": 44_101},
        "PROMPT_SAMPLE_RATE: 44101 is out of range; give a multiple of 25 from 8000 to 192000",
    ),
    ({**SONG, "START": 1}, "START: 1 is out of range; give 0 to 0"),
    ({**SONG, "CODES": zeros(4, 10), "START": 6401}, "START: 6401 is out of range; give 0 to 6400"),
    ({**SONG, "CODES": zeros(4, 10), "START": -1}, "START: -1 is out of range; give 0 to 6400"),
]


def test_bad_inputs_are_named_and_disturb_no_song_under_way(stack: Stack) -> None:
    song = {**SONG, "DURATION": 10}
    (alone,) = stream(stack, "musicgen-tiny", song)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(stream, stack, "musicgen-tiny", song)
        for values, text in BAD:
            (error,) = stream(stack, "musicgen-tiny", values)
            assert isinstance(error, InferenceServerException), values
            assert error.message().startswith(f"[invalid_input] {text}"), values
        (answer,) = under_way.result()
    assert np.array_equal(answer.as_numpy("AUDIO"), alone.as_numpy("AUDIO"))


def test_a_song_is_not_gone_on_with_by_other_weights(stack: Stack) -> None:
    (error,) = stream(stack, "musicgen-tiny", {**SONG, "REVISION": "0123456789ab"})
    assert isinstance(error, InferenceServerException)
    assert error.message().startswith("[weights_changed] REVISION: '0123456789ab' is not here")


@pytest.mark.parametrize("through_front", [False, True])
def test_a_song_goes_on_from_audio_and_its_codes_come_too(
    stack: Stack, through_front: bool
) -> None:
    song = {**SONG, "PROMPT_AUDIO": tone(1)[:, :26_460], "PROMPT_SAMPLE_RATE": 22_050}
    answer = front(stack, song) if through_front else stream(stack, "musicgen-tiny", song)[0]
    assert answer.as_numpy("AUDIO").shape == (1, 125 * 640)
    codes = answer.as_numpy("CODES")
    assert codes.shape == (4, 125)
    held = {**SONG, "CODES": codes[:, :60], "START": 60 * 640}
    (rest,) = stream(stack, "musicgen-tiny", held)
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
def test_settings_make_music_at_their_ends(stack: Stack, setting: str, value: float) -> None:
    (answer,) = stream(stack, "musicgen-tiny", {**SONG, "DURATION": 0.5, setting: value})
    audio, codes = answer.as_numpy("AUDIO"), answer.as_numpy("CODES")
    assert audio.shape == (1, 16_000) and np.isfinite(audio).all()
    assert codes.shape == (4, 25) and codes.min() >= 0 and codes.max() < 1024


def test_top_k_beyond_the_card_keeps_every_token(stack: Stack) -> None:
    def codes(top_k: int) -> Any:
        song = {**SONG, "DURATION": 0.5, "TOP_K": top_k}
        return stream(stack, "musicgen-tiny", song)[0].as_numpy("CODES")

    for top_k in (1024, 1025, 1_000_000):
        assert np.array_equal(codes(top_k), codes(0))


def test_http_generate_stream_speaks_json(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.triton_http}/v2/models/musicgen-tiny/generate_stream"
    body = json.dumps({"PROMPT": "x", "DURATION": 0.02, "SEED": 3}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as response:
        event = json.loads(response.read().decode().removeprefix("data: "))
    assert (event["FRAMES"], event["SEED"], len(event["AUDIO"])) == (1, 3, 640)
    assert len(event["CODES"]) == 4


def test_a_cancelled_stream_stops_the_song(stack: Stack) -> None:
    async def begin_and_leave() -> None:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{stack.triton_grpc}") as client:

            async def requests() -> AsyncIterator[dict[str, Any]]:
                song = {"PROMPT": "long", "DURATION": 300, "STREAM": True}
                yield {"model_name": "musicgen-tiny", "inputs": tensors(triton_aio, song)}

            answers = client.stream_infer(requests(), stream_timeout=60)
            async for result, _ in answers:
                if status(result)["state"] == "generating":
                    answers.cancel()
                    return

    def running() -> int:
        return int(status(stream(stack, "musicgen-tiny", {})[0])["running"])

    asyncio.run(begin_and_leave())
    until(lambda: not running(), 3)  # the long song would take many times that


def test_triton_says_what_it_does_not_know(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.triton_http}/v2/models/nothing/generate_stream"
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(urllib.request.Request(url, b"{}"), timeout=10)
