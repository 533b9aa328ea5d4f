"""`musicgen` sends one response with the whole song, over gRPC and HTTP."""

import asyncio
import json
import re
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from tests.conftest import TIMEOUT, Stack, until
from tests.stack.client import SONG, front, infer, model_status, status, tensors, zeros


def test_http_infer_returns_the_song_of_a_stream(stack: Stack, whole_song: Any) -> None:
    answer = front(stack, SONG)
    for name in ("AUDIO", "CODES"):
        assert np.array_equal(answer.as_numpy(name), whole_song.as_numpy(name))
    assert answer.as_numpy("FRAMES").tolist() == [125]
    assert status(answer)["state"] == "done"


def test_grpc_infers_do_not_wait_for_each_other(stack: Stack) -> None:
    def frames(seed: int) -> int:
        with triton_grpc.InferenceServerClient(f"127.0.0.1:{stack.triton_grpc}") as client:
            song = {"MODEL": "musicgen-tiny", "PROMPT": "x", "DURATION": 0.5, "SEED": seed}
            answer = client.infer("musicgen", tensors(triton_grpc, song), client_timeout=TIMEOUT)
            assert answer.as_numpy("SEED").tolist() == [seed]
            return int(answer.as_numpy("FRAMES")[0])

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(frames, range(12))) == [25] * 12


def test_the_front_lists_models_while_it_relays_many_songs(stack: Stack) -> None:
    def relay(seed: int) -> Any:
        """The song, or the error where too many wait."""
        try:
            return front(stack, {**SONG, "SEED": seed})
        except InferenceServerException as error:
            return error

    with (
        ThreadPoolExecutor(32) as pool,
        triton_http.InferenceServerClient(f"127.0.0.1:{stack.triton_http}") as client,
    ):
        songs = [pool.submit(relay, seed) for seed in range(32)]
        until(lambda: model_status(stack)["running"] > 10)
        assert status(client.infer("musicgen", []))["models"]
        assert not all(song.done() for song in songs)
        answers = [song.result() for song in songs]
    refusals = [answer for answer in answers if isinstance(answer, InferenceServerException)]
    assert refusals
    for answer in answers:
        if answer in refusals:
            assert re.match(r"\[queue_full\] .*; ask again in \d+ s$", answer.message())
        else:
            assert answer.as_numpy("CODES").shape == (4, 125)


def test_asyncio_infer_returns_a_song(stack: Stack) -> None:
    answer = asyncio.run(infer(stack, {"MODEL": "musicgen-tiny", **SONG}))
    assert answer.as_numpy("AUDIO").shape == (1, 125 * 640)


@pytest.mark.parametrize(
    ("values", "status", "text"),
    [
        (SONG, "INVALID_ARGUMENT", "[invalid_input] MODEL is missing; name "),
        ({**SONG, "MODEL": "bach"}, "NOT_FOUND", "[unknown_model] MODEL 'bach' is "),
        ({**SONG, "MODEL": "../musicgen-tiny"}, "NOT_FOUND", "[unknown_model]"),
        (
            {**SONG, "MODEL": "musicgen-small"},
            "UNAVAILABLE",
            "[model_not_loaded] MODEL musicgen-small is ",
        ),
        (
            {"MODEL": "musicgen-tiny", "PROMPT": ""},
            "INVALID_ARGUMENT",
            "[invalid_input] DURATION is missing; give ",
        ),
        (
            {"MODEL": "musicgen-tiny", **SONG, "CODES": zeros(8, 10)},
            "INVALID_ARGUMENT",
            "[invalid_input] CODES has 8 codebooks; ",
        ),
    ],
)
def test_an_error_of_infer_has_its_code_and_status(
    stack: Stack, values: dict[str, Any], status: str, text: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        asyncio.run(infer(stack, values))
    assert caught.value.status() == f"StatusCode.{status}"
    assert caught.value.message().startswith(text)


def generate(stack: Stack, path: str, body: dict[str, Any]) -> bytes:
    """The answer to a POST, or the body of its error."""
    url = f"http://127.0.0.1:{stack.triton_http}/v2/models/{path}"
    request = urllib.request.Request(url, json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return bytes(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.read()


@pytest.mark.parametrize("path", ["musicgen/generate", "musicgen-tiny/generate_stream"])
@pytest.mark.parametrize(
    "body",
    [
        {"PROMPT": "x", "DURATION": 0.02, "Seed": 3},
        {"prompt": "x", "duration": 0.02},
        {"zzz": True, "prompt": "x"},
    ],
)
def test_a_misspelt_input_of_generate_is_named(
    stack: Stack, path: str, body: dict[str, Any]
) -> None:
    answer = json.loads(generate(stack, path, body).removeprefix(b"data: "))
    assert set(answer) == {"error"}
    wrong = min(body.keys() - {"PROMPT", "DURATION"})
    assert answer["error"].startswith(f"[invalid_input] {wrong!r} is no input; the inputs are ")


def test_http_generate_of_the_front_returns_json(stack: Stack) -> None:
    song = {"MODEL": "musicgen-tiny", "PROMPT": "x", "DURATION": 0.02, "SEED": 3}
    answer = json.loads(generate(stack, "musicgen/generate", song))
    assert (answer["FRAMES"], answer["SEED"], len(answer["AUDIO"])) == (1, 3, 640)


def test_a_cancelled_infer_leaves_the_front_working(stack: Stack) -> None:
    song = {"MODEL": "musicgen-tiny", "PROMPT": "x", "DURATION": 5}
    with pytest.raises(InferenceServerException, match=r"Deadline|CANCELLED|cancelled"):
        asyncio.run(infer(stack, song, timeout=0.1))
    answer = asyncio.run(infer(stack, {**song, "DURATION": 0.02}))
    assert answer.as_numpy("AUDIO").shape == (1, 640)
