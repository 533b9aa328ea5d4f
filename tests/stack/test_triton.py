"""The Triton contract, as MLOps tooling meets it: each protocol and client, no gateway."""

import asyncio
import itertools
import json
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_aio
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from tests.conftest import Stack, until

TYPES = {
    "MODEL": "BYTES",
    "PROMPT": "BYTES",
    "DURATION": "FP32",
    "SEED": "INT64",
    "TEMPERATURE": "FP32",
    "TOP_K": "INT32",
    "TOP_P": "FP32",
    "CFG_COEF": "FP32",
    "STREAM": "BOOL",
}
NUMPY = {
    "BYTES": object,
    "FP32": np.float32,
    "INT64": np.int64,
    "INT32": np.int32,
    "BOOL": bool,
}


def tensors(client: Any, values: dict[str, Any]) -> list[Any]:
    """The inputs of a request, for the client module `client`."""
    made = []
    for name, value in values.items():
        value = value.encode() if isinstance(value, str) else value
        made.append(client.InferInput(name, [1], TYPES[name]))
        made[-1].set_data_from_numpy(np.array([value], dtype=NUMPY[TYPES[name]]))
    return made


def stream(stack: Stack, model: str, values: dict[str, Any]) -> list[Any]:
    """All responses of a decoupled model, by the synchronous gRPC client; errors as they come."""
    answers: Queue[Any] = Queue()
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{stack.triton_grpc}") as client:
        client.start_stream(lambda result, error: answers.put(error or result))
        client.async_stream_infer(
            model, tensors(triton_grpc, values), enable_empty_final_response=True
        )
        received = []
        while True:
            answer = answers.get(timeout=30)
            received.append(answer)
            if isinstance(answer, InferenceServerException):
                return received
            if answer.get_response().parameters["triton_final_response"].bool_param:
                return received


def status(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.as_numpy("STATUS")[0])
    return found


SONG = {"PROMPT": "slow piano", "DURATION": 2.5, "SEED": 7}


def test_a_plain_request_gets_one_response_with_everything(stack: Stack) -> None:
    (answer,) = stream(stack, "musicgen-tiny", SONG)
    assert answer.as_numpy("AUDIO").shape == (1, 125 * 640)
    assert answer.as_numpy("SAMPLE_RATE").tolist() == [32_000]
    assert answer.as_numpy("FRAMES").tolist() == [125]
    assert answer.as_numpy("SEED").tolist() == [7]
    assert status(answer) == {"state": "done", "frames": 125, "total_frames": 125}


def test_a_stream_is_the_same_song_in_chunks_of_a_second(stack: Stack) -> None:
    (whole,) = stream(stack, "musicgen-tiny", SONG)
    answers = stream(stack, "musicgen-tiny", {**SONG, "STREAM": True})
    chunks = [a.as_numpy("AUDIO") for a in answers if a.as_numpy("AUDIO") is not None]
    assert [chunk.shape[1] for chunk in chunks] == [32_000, 32_000, 16_000]
    assert np.array_equal(np.concatenate(chunks, axis=1), whole.as_numpy("AUDIO"))
    states = [status(answer)["state"] for answer in answers]
    assert states[0] in ("queued", "generating") and states[-1] == "done"


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
        return stream(stack, "musicgen-tiny", {**SONG, "DURATION": 0.5, **settings})[0].as_numpy(
            "AUDIO"
        )

    same = audio()
    assert np.array_equal(same, audio())
    for settings in (
        {"SEED": 8},
        {"PROMPT": "fast drums"},
        {"TEMPERATURE": 0},
        {"TOP_K": 5},
        {"TOP_P": 0.3},
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
    assert (told["state"], told["channels"], told["sample_rate"]) == ("ready", 1, 32_000)


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"DURATION": 1.0}, "[invalid_input] PROMPT: "),
        ({"PROMPT": "x"}, "[invalid_input] DURATION: "),
        ({**SONG, "DURATION": -1}, "[invalid_input] DURATION: "),
        ({**SONG, "TOP_P": 2}, "[invalid_input] TOP_P: "),
    ],
)
def test_bad_inputs_are_named(stack: Stack, values: dict[str, Any], code: str) -> None:
    (error,) = stream(stack, "musicgen-tiny", values)
    assert isinstance(error, InferenceServerException)
    assert error.message().startswith(code)


def test_plain_http_infer_makes_a_song(stack: Stack) -> None:
    with triton_http.InferenceServerClient(f"127.0.0.1:{stack.triton_http}") as client:
        inputs = tensors(triton_http, {"MODEL": "musicgen-tiny", **SONG})
        answer = client.infer("musicgen", inputs)
    (streamed,) = stream(stack, "musicgen-tiny", SONG)
    assert np.array_equal(answer.as_numpy("AUDIO"), streamed.as_numpy("AUDIO"))
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


async def infer(stack: Stack, values: dict[str, Any], timeout: float = 60) -> Any:
    async with triton_aio.InferenceServerClient(f"127.0.0.1:{stack.triton_grpc}") as client:
        inputs = tensors(triton_aio, values)
        return await client.infer("musicgen", inputs, client_timeout=timeout)


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
    ],
)
def test_plain_infer_errors_have_their_code(
    stack: Stack, values: dict[str, Any], status: str, text: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        asyncio.run(infer(stack, values))
    assert caught.value.status() == f"StatusCode.{status}"
    assert caught.value.message().startswith(text)


def test_http_generate_stream_speaks_json(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.triton_http}/v2/models/musicgen-tiny/generate_stream"
    body = json.dumps({"PROMPT": "x", "DURATION": 0.02, "SEED": 3}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as response:
        event = json.loads(response.read().decode().removeprefix("data: "))
    assert (event["FRAMES"], event["SEED"], len(event["AUDIO"])) == (1, 3, 640)


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


def test_a_cancelled_stream_stops_the_song(stack: Stack) -> None:
    async def begin_and_leave() -> None:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{stack.triton_grpc}") as client:

            async def requests() -> AsyncIterator[dict[str, Any]]:
                song = {"PROMPT": "long", "DURATION": 120, "STREAM": True}
                yield {"model_name": "musicgen-tiny", "inputs": tensors(triton_aio, song)}

            answers = client.stream_infer(requests(), stream_timeout=60)
            async for result, _ in answers:
                if status(result)["state"] == "generating":
                    answers.cancel()
                    return

    asyncio.run(begin_and_leave())
    left = time.monotonic()
    (quick,) = stream(stack, "musicgen-tiny", {"PROMPT": "next", "DURATION": 0.02})
    assert quick.as_numpy("AUDIO").shape == (1, 640)
    assert time.monotonic() - left < 5  # the long song would take many times that


def test_the_model_declares_what_the_documents_say(stack: Stack) -> None:
    with triton_http.InferenceServerClient(f"127.0.0.1:{stack.triton_http}") as client:
        variant = client.get_model_metadata("musicgen-tiny")
        front = client.get_model_metadata("musicgen")
    shapes = {tensor["name"]: tensor["datatype"] for tensor in variant["inputs"]}
    assert shapes == {name: kind for name, kind in TYPES.items() if name != "MODEL"}
    assert {t["name"] for t in front["inputs"]} == TYPES.keys() - {"STREAM"}
    outputs = ["AUDIO", "SAMPLE_RATE", "FRAMES", "SEED", "STATUS"]
    assert [tensor["name"] for tensor in variant["outputs"]] == outputs
    assert front["outputs"] == variant["outputs"]
    document = (Path(__file__).parents[2] / "docs" / "triton.md").read_text()
    for name in [*TYPES, *outputs]:
        assert f"`{name}`" in document


def test_the_stub_never_imports_torch(stack: Stack) -> None:
    stub = until(lambda: stack.pid("triton_python_backend_stub", "musicgen-tiny"))
    engine = until(lambda: stack.pid("musicgen_engine.engine", "musicgen-tiny"))
    assert "libtorch" not in Path(f"/proc/{stub}/maps").read_text()
    assert "libtorch" in Path(f"/proc/{engine}/maps").read_text()


def test_triton_says_what_it_does_not_know(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.triton_http}/v2/models/nothing/generate_stream"
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(urllib.request.Request(url, b"{}"), timeout=10)
