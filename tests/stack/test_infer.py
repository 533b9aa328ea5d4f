"""`musicgen` answers once, over gRPC and HTTP, with the whole song."""

import asyncio
import json
import os
import signal
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from tests.conftest import START_TIMEOUT, Stack, until
from tests.stack.client import SONG, front, infer, status, stream, tensors, zeros


def test_plain_http_infer_makes_a_song(stack: Stack) -> None:
    answer = front(stack, SONG)
    (streamed,) = stream(stack, "musicgen-tiny", SONG)
    for name in ("AUDIO", "CODES"):
        assert np.array_equal(answer.as_numpy(name), streamed.as_numpy(name))
    assert answer.as_numpy("FRAMES").tolist() == [125]
    assert status(answer)["state"] == "done"


def test_plain_grpc_infers_wait_side_by_side(stack: Stack) -> None:
    def frames(seed: int) -> int:
        with triton_grpc.InferenceServerClient(f"127.0.0.1:{stack.triton_grpc}") as client:
            song = {"MODEL": "musicgen-tiny", "PROMPT": "x", "DURATION": 0.5, "SEED": seed}
            answer = client.infer("musicgen", tensors(triton_grpc, song), client_timeout=60)
            assert answer.as_numpy("SEED").tolist() == [seed]
            return int(answer.as_numpy("FRAMES")[0])

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(frames, range(12))) == [25] * 12


def test_the_front_tells_what_there_is_however_many_songs_it_relays(stack: Stack) -> None:
    def play(seed: int) -> Any:
        return front(stack, {**SONG, "DURATION": 5, "SEED": seed})

    with (
        ThreadPoolExecutor(24) as pool,
        triton_http.InferenceServerClient(f"127.0.0.1:{stack.triton_http}") as client,
    ):
        songs = [pool.submit(play, seed) for seed in range(24)]
        until(lambda: status(stream(stack, "musicgen-tiny", {})[0])["running"] > 10)
        asked = time.monotonic()
        assert status(client.infer("musicgen", []))["models"]
        assert time.monotonic() - asked < 2 and not all(song.done() for song in songs)
        for song in songs:
            assert song.result().as_numpy("CODES").shape == (4, 250)


def test_plain_asyncio_infer_makes_a_song(stack: Stack) -> None:
    answer = asyncio.run(infer(stack, {"MODEL": "musicgen-tiny", **SONG}))
    assert answer.as_numpy("AUDIO").shape == (1, 125 * 640)


@pytest.mark.parametrize(
    ("values", "status", "text"),
    [
        (SONG, "INVALID_ARGUMENT", "[invalid_input] MODEL: missing"),
        ({**SONG, "MODEL": "bach"}, "NOT_FOUND", "[unknown_model] MODEL: 'bach'"),
        ({**SONG, "MODEL": "../musicgen-tiny"}, "NOT_FOUND", "[unknown_model]"),
        ({**SONG, "MODEL": "musicgen-small"}, "UNAVAILABLE", "[model_not_loaded] MODEL: "),
        ({"MODEL": "musicgen-tiny", "PROMPT": ""}, "INVALID_ARGUMENT", "[invalid_input] DURATION"),
        (
            {"MODEL": "musicgen-tiny", **SONG, "CODES": zeros(8, 10)},
            "INVALID_ARGUMENT",
            "[invalid_input] CODES: 8 codebooks",
        ),
    ],
)
def test_plain_infer_errors_have_their_code(
    stack: Stack, values: dict[str, Any], status: str, text: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        asyncio.run(infer(stack, values))
    assert caught.value.status() == f"StatusCode.{status}"
    assert caught.value.message().startswith(text)


def test_an_engine_that_dies_amid_a_song_is_told_to_a_plain_infer(stack: Stack) -> None:
    def state() -> dict[str, Any]:
        return status(stream(stack, "musicgen-tiny", {})[0])

    song = {"MODEL": "musicgen-tiny", "PROMPT": "long", "DURATION": 300}
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(asyncio.run, infer(stack, song))
        until(lambda: state()["running"])
        os.kill(until(lambda: stack.pid("musicgen_engine.core", "musicgen-tiny")), signal.SIGKILL)
        error = lost.exception(timeout=5)
    assert isinstance(error, InferenceServerException)
    assert error.status() == "StatusCode.UNAVAILABLE"
    assert error.message().startswith("[engine_unavailable] ")
    until(lambda: state()["state"] == "ready", START_TIMEOUT)


def test_http_generate_on_the_front_answers_once(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.triton_http}/v2/models/musicgen/generate"
    song = {"MODEL": "musicgen-tiny", "PROMPT": "x", "DURATION": 0.02, "SEED": 3}
    request = urllib.request.Request(url, json.dumps(song).encode())
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
    assert (answer["FRAMES"], answer["SEED"], len(answer["AUDIO"])) == (1, 3, 640)


def test_a_cancelled_plain_infer_harms_nobody(stack: Stack) -> None:
    song = {"MODEL": "musicgen-tiny", "PROMPT": "x", "DURATION": 5}
    with pytest.raises(InferenceServerException, match=r"Deadline|CANCELLED|cancelled"):
        asyncio.run(infer(stack, song, timeout=0.3))
    answer = asyncio.run(infer(stack, {**song, "DURATION": 0.02}))
    assert answer.as_numpy("AUDIO").shape == (1, 640)
