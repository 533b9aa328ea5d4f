"""The Triton contract, as MLOps tooling meets it: each protocol and client, no gateway."""

import asyncio
import itertools
import json
import math
import os
import shutil
import signal
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_aio
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from gateway.errors import GatewayError
from gateway.triton import TritonClient
from tests.conftest import ADMIN, ROOT, START_TIMEOUT, Stack, until

TYPES = {
    "MODEL": "BYTES",
    "PROMPT": "BYTES",
    "DURATION": "FP32",
    "SEED": "INT64",
    "TEMPERATURE": "FP32",
    "TOP_K": "INT32",
    "TOP_P": "FP32",
    "CFG_COEF": "FP32",
    "EXTEND_STRIDE": "FP32",
    "PROMPT_AUDIO": "FP32",
    "PROMPT_SAMPLE_RATE": "INT32",
    "REVISION": "BYTES",
    "CODES": "INT32",
    "START": "INT64",
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
        array = np.array(
            value if name in ("CODES", "PROMPT_AUDIO") else [value], NUMPY[TYPES[name]]
        )
        made.append(client.InferInput(name, list(array.shape), TYPES[name]))
        made[-1].set_data_from_numpy(array)
    return made


def stream(stack: Stack, model: str, values: dict[str, Any], request_id: str = "") -> list[Any]:
    """All responses of a decoupled model, by the synchronous gRPC client; errors as they come."""
    answers: Queue[Any] = Queue()
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{stack.triton_grpc}") as client:
        client.start_stream(lambda result, error: answers.put(error or result))
        client.async_stream_infer(
            model,
            tensors(triton_grpc, values),
            request_id=request_id,
            enable_empty_final_response=True,
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


def chunks(answers: Sequence[Any]) -> list[Any]:
    """Those of a stream's answers that hold more than a status."""
    return [answer for answer in answers if answer.as_numpy("AUDIO") is not None]


def joined(answers: Sequence[Any], name: str) -> Any:
    """An output of all chunks along their time."""
    return np.concatenate([answer.as_numpy(name) for answer in answers], axis=1)


def front(stack: Stack, values: dict[str, Any], request_id: str = "") -> Any:
    """The response of `musicgen` to a plain HTTP infer."""
    with triton_http.InferenceServerClient(f"127.0.0.1:{stack.triton_http}") as client:
        inputs = tensors(triton_http, {"MODEL": "musicgen-tiny", **values})
        return client.infer("musicgen", inputs, request_id=request_id)


SONG = {"PROMPT": "slow piano", "DURATION": 2.5, "SEED": 7}


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


def test_a_stream_is_the_same_song_in_chunks_of_a_second_after_half_a_one(stack: Stack) -> None:
    (whole,) = stream(stack, "musicgen-tiny", SONG)
    answers = stream(stack, "musicgen-tiny", {**SONG, "STREAM": True})
    pieces = chunks(answers)
    assert [piece.as_numpy("AUDIO").shape[1] for piece in pieces] == [16_000, 32_000, 32_000]
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


def zeros(codebooks: int, frames: int) -> Any:
    return np.zeros((codebooks, frames), np.int32)


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
        os.kill(until(lambda: stack.pid("musicgen_engine.engine", "musicgen-tiny")), signal.SIGKILL)
        error = lost.exception(timeout=5)
    assert isinstance(error, InferenceServerException)
    assert error.status() == "StatusCode.UNAVAILABLE"
    assert error.message().startswith("[engine_unavailable] ")
    until(lambda: state()["state"] == "ready", START_TIMEOUT)


def test_http_generate_stream_speaks_json(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.triton_http}/v2/models/musicgen-tiny/generate_stream"
    body = json.dumps({"PROMPT": "x", "DURATION": 0.02, "SEED": 3}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as response:
        event = json.loads(response.read().decode().removeprefix("data: "))
    assert (event["FRAMES"], event["SEED"], len(event["AUDIO"])) == (1, 3, 640)
    assert len(event["CODES"]) == 4


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


def test_the_model_declares_what_the_documents_say(stack: Stack) -> None:
    with triton_http.InferenceServerClient(f"127.0.0.1:{stack.triton_http}") as client:
        variant = client.get_model_metadata("musicgen-tiny")
        front = client.get_model_metadata("musicgen")
    shapes = {tensor["name"]: tensor["datatype"] for tensor in variant["inputs"]}
    assert shapes == {name: kind for name, kind in TYPES.items() if name != "MODEL"}
    assert {t["name"] for t in front["inputs"]} == TYPES.keys() - {"STREAM"}
    outputs = ["AUDIO", "CODES", "SAMPLE_RATE", "FRAMES", "SEED", "REVISION", "STATUS"]
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


@contextmanager
def variant(stack: Stack, name: str, parameter: str, value: str) -> Iterator[Any]:
    """musicgen-tiny under another name, with one more parameter; gives a client to load it with."""
    folder, tiny = stack.repository / name, ROOT / "model_repository" / "musicgen-tiny"
    folder.mkdir()
    (folder / "1").symlink_to(tiny / "1")
    line = f'parameters {{ key: "{parameter}" value {{ string_value: "{value}" }} }}\n'
    (folder / "config.pbtxt").write_text((tiny / "config.pbtxt").read_text() + line)
    with triton_http.InferenceServerClient(f"127.0.0.1:{stack.triton_http}") as client:
        try:
            yield client
        finally:
            client.unload_model(name, ADMIN)
            shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("parameter", "value", "text"),
    [
        (
            "device",
            "gpu",
            "device of config.pbtxt, 'gpu', is wrong: give auto, cpu, cuda or cuda:N",
        ),
        (
            "devise",
            "cpu",
            "config.pbtxt has no parameter 'devise'; there are checkpoint, license, ",
        ),
    ],
)
def test_a_wrong_parameter_is_named_when_the_model_is_loaded(
    stack: Stack, parameter: str, value: str, text: str
) -> None:
    with variant(stack, "misplaced", parameter, value) as client:
        with pytest.raises(InferenceServerException) as caught:
            client.load_model("misplaced", ADMIN)
        assert text in caught.value.message()


def test_a_model_for_which_there_is_no_room_says_so(stack: Stack) -> None:
    with variant(stack, "homeless", "memory", "0.000001") as client:
        client.load_model("homeless", ADMIN)

        def told() -> dict[str, Any]:
            return status(stream(stack, "homeless", {})[0])

        until(lambda: told()["state"] == "failed", START_TIMEOUT)
        assert told()["code"] == "engine_unavailable"
        assert "raise `memory` in its config.pbtxt" in told()["message"]
        (refused,) = stream(stack, "homeless", SONG)
        assert refused.message().startswith("[engine_unavailable] ")


def test_parameters_of_tritons_own_are_left_alone(stack: Stack) -> None:
    with variant(stack, "plain", "FORCE_CPU_ONLY_INPUT_TENSORS", "yes") as client:
        client.load_model("plain", ADMIN)
        assert status(stream(stack, "plain", {})[0])["state"] in ("loading", "ready")


def test_triton_says_what_it_does_not_know(stack: Stack) -> None:
    url = f"http://127.0.0.1:{stack.triton_http}/v2/models/nothing/generate_stream"
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(urllib.request.Request(url, b"{}"), timeout=10)


RESTRICTED = [
    ("POST", "repository/index"),
    ("POST", "repository/models/musicgen-tiny/load"),
    ("POST", "repository/models/musicgen-tiny/unload"),
    ("GET", "systemsharedmemory/status"),
    ("GET", "cudasharedmemory/status"),
    ("GET", "trace/setting"),
    ("GET", "logging"),
]


@pytest.mark.parametrize(("method", "path"), RESTRICTED)
def test_model_control_is_the_gateways_alone_over_http(
    stack: Stack, method: str, path: str
) -> None:
    def status(headers: dict[str, str]) -> int:
        url, body = f"http://127.0.0.1:{stack.triton_http}/v2/{path}", b"{}"
        request = urllib.request.Request(url, body if method == "POST" else None, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert status({}) == status({"admin-key": "another-key-of-tests"}) == 403
    if not path.endswith("load"):
        assert status(ADMIN) == 200


@pytest.mark.parametrize(
    "ask",
    [
        lambda client, headers: client.get_model_repository_index(headers),
        lambda client, headers: client.get_system_shared_memory_status("", headers),
        lambda client, headers: client.get_cuda_shared_memory_status("", headers),
        lambda client, headers: client.get_trace_settings(None, headers),
        lambda client, headers: client.get_log_settings(headers),
    ],
    ids=["repository", "shared-memory", "cuda-shared-memory", "trace", "logging"],
)
def test_model_control_is_the_gateways_alone_over_grpc(stack: Stack, ask: Any) -> None:
    header = "triton-grpc-protocol-admin-key"
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{stack.triton_grpc}") as client:
        for headers in (None, {header: "another-key-of-tests"}):
            with pytest.raises(InferenceServerException, match="protocol is restricted"):
                ask(client, headers)
        ask(client, {header: ADMIN["admin-key"]})


def test_health_metadata_and_statistics_are_everybodys(stack: Stack) -> None:
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{stack.triton_grpc}") as client:
        assert client.is_server_live() and client.is_model_ready("musicgen")
        assert client.get_model_metadata("musicgen").name == "musicgen"
        assert client.get_model_config("musicgen").config.name == "musicgen"
        assert client.get_inference_statistics("musicgen").model_stats[0].name == "musicgen"


async def test_a_gateway_with_another_key_says_so_and_not_to_wait(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    client = TritonClient(f"127.0.0.1:{stack.triton_grpc}", 60, "another-key-of-tests")
    for call in (client.loaded(), client.load("musicgen-tiny"), client.unload("musicgen-tiny")):
        with pytest.raises(GatewayError, match="refuses the gateway") as raised:
            await call
        assert raised.value.status == 500
    assert "give the gateway the same" in caplog.text
    assert (await client.catalogue())[0].name
    await client.close()
