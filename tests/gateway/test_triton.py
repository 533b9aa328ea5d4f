"""The client of Triton against a gRPC server that sends what a stub or Triton sends."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.contract import Chunk, DeadStub, Failed, Loading, NotLoaded, Progress, Ready
from gateway.triton import TritonClient
from protocol.errors import (
    EngineUnavailable,
    Internal,
    InvalidField,
    QueueFull,
    ServiceError,
    TritonUnavailable,
    WeightsMissing,
)
from protocol.request import GenerationRequest
from protocol.tensors import INPUTS, STREAM
from tests.gateway.test_models import until

MODEL = "musicgen-tiny"
REQUEST = GenerationRequest("slow piano", 100, seed=7)
READY = {"state": "ready", "slots": 16, "revision": "0123", "full_for": 0}


class FakeServer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Responds to each stream with `responses`; `ended` counts the streams that were not
    cancelled."""

    def __init__(self) -> None:
        self.responses: list[Any] = []
        self.requests: list[Any] = []
        self.ended = 0

    async def ModelStreamInfer(self, requests: Any, _: Any) -> AsyncIterator[Any]:
        self.requests.append(await anext(aiter(requests)))
        for response in self.responses:
            yield response
            await asyncio.sleep(0.02)
        self.ended += 1

    async def ModelInfer(self, request: Any, _: Any) -> Any:
        self.requests.append(request)
        await asyncio.sleep(0.1)
        self.ended += 1
        return service_pb2.ModelInferResponse()


def status(**values: Any) -> Any:
    return response(STATUS=json.dumps(values))


def failed(error: ServiceError) -> list[Any]:
    """A stub's last two responses: the error as data, and as Triton's error."""
    return [status(state="failed", **error.data()), triton_error(str(error))]


def triton_error(text: str) -> Any:
    return service_pb2.ModelStreamInferResponse(error_message=text)


def response(**outputs: Any) -> Any:
    message = service_pb2.ModelStreamInferResponse()
    types = {"float32": "FP32", "int32": "INT32"}
    for name, value in outputs.items():
        if isinstance(value, str):
            data_type, shape, data = "BYTES", [1], value.encode()
            data = struct.pack("<I", len(data)) + data
        else:
            data_type, shape, data = types[str(value.dtype)], value.shape, value.tobytes()
        message.infer_response.outputs.add(name=name, datatype=data_type, shape=shape)
        message.infer_response.raw_output_contents.append(data)
    return message


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
async def client(server: FakeServer) -> AsyncIterator[TritonClient]:
    running = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(server, running)
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    client = TritonClient(f"127.0.0.1:{port}", 10, "")
    yield client
    await client.close()
    await running.stop(None)


async def generate(client: TritonClient) -> list[Any]:
    return [response async for response in client.generate(MODEL, REQUEST, number=7)]


async def test_a_request_has_the_inputs_of_the_table(
    client: TritonClient, server: FakeServer
) -> None:
    server.responses = [status(state="queued", position=1)]
    assert await generate(client) == [Progress("queued", 1)]
    [request] = server.requests
    inputs = {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in request.inputs}
    types = {"TYPE_STRING": "BYTES"}
    table = {
        tensor["name"]: (types.get(tensor["data_type"], tensor["data_type"][5:]), tensor["dims"])
        for tensor in [*INPUTS, STREAM]
    }
    assert inputs == {name: table[name] for name in inputs}
    absent = {"ARRIVAL_TIME", "CHROMA", "CODES", "MELODY", "PROMPT_AUDIO", "REVISION", "TIMELINE"}
    assert table.keys() - inputs.keys() == absent


async def test_a_chunk_has_audio_codes_and_progress(
    client: TritonClient, server: FakeServer
) -> None:
    audio, codes = np.ones((2, 640), np.float32), np.ones((4, 3), np.int32)
    state = json.dumps({"state": "generating", "frames": 3, "total_frames": 100})
    rate = np.array([32_000], np.int32)
    server.responses = [
        response(AUDIO=audio, CODES=codes, SAMPLE_RATE=rate, REVISION="0123", STATUS=state)
    ]
    [chunk] = await generate(client)
    assert isinstance(chunk, Chunk)
    assert np.array_equal(chunk.audio, audio) and np.array_equal(chunk.codes, codes)
    assert (chunk.sample_rate, chunk.revision) == (32_000, "0123")
    assert chunk.progress == Progress("generating", frames=3)


@pytest.mark.parametrize(
    "error",
    [
        QueueFull("The queue is full.", retry_after=36),
        InvalidField("codes has 8 codebooks; this model has 4.", "codes"),
        WeightsMissing("The weights are not here."),
        EngineUnavailable("It died with 'Stub process' in its text."),
    ],
    ids=lambda error: error.code,
)
async def test_an_error_of_the_engine_arrives_as_data(
    client: TritonClient, server: FakeServer, error: ServiceError
) -> None:
    server.responses = [status(state="queued", position=1), *failed(error)]
    with pytest.raises(type(error)) as raised:
        await generate(client)
    assert raised.value.data() == error.data()


async def test_a_stream_is_read_to_its_end_after_an_error(
    client: TritonClient, server: FakeServer
) -> None:
    server.responses = failed(QueueFull("The queue is full."))
    with pytest.raises(QueueFull):
        await generate(client)
    assert server.ended == 1


async def test_a_caller_that_leaves_cancels_by_a_request(
    client: TritonClient, server: FakeServer
) -> None:
    """The stream itself is read to its end: Triton would count a cancelled one for ever."""
    server.responses = [status(state="queued", position=1)] * 20
    song = asyncio.create_task(generate(client))
    await until(lambda: server.requests)
    song.cancel()
    await until(lambda: len(server.requests) > 1)
    song_request, cancellation = server.requests[:2]
    assert song_request.parameters["sequence_id"].int64_param
    assert song_request.parameters["sequence_id"] == cancellation.parameters["sequence_id"]
    assert song_request.inputs and not cancellation.inputs
    await until(lambda: server.ended == len(server.requests))
    assert song.cancelled()


@pytest.mark.parametrize("call", [lambda client: client.status(MODEL), TritonClient.catalogue])
async def test_a_question_is_answered_without_a_caller(
    client: TritonClient, server: FakeServer, call: Callable[[TritonClient], Any]
) -> None:
    server.responses = [status(state="loading", bytes=5, total_bytes=None)]
    question = asyncio.create_task(call(client))
    await until(lambda: server.requests)
    question.cancel()
    await until(lambda: server.ended)
    assert question.cancelled() and len(server.requests) == 1


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("generation_failed", Internal, "a bug"),
        ("cancelled", EngineUnavailable, "The server cancelled the song"),
        ("unheard_of", Internal, "a bug"),
    ],
)
async def test_codes_without_an_http_status_are_replaced(
    client: TritonClient, server: FakeServer, code: str, kind: type[ServiceError], message: str
) -> None:
    values: dict[str, Any] = {
        "code": code,
        "message": "a bug",
        "field": None,
        "limits": {},
        "retry_after": None,
    }
    server.responses = [status(state="failed", **values), triton_error(f"[{code}] a bug")]
    with pytest.raises(kind) as raised:
        await generate(client)
    assert raised.value.message.startswith(message)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Request for unknown model: 'musicgen-tiny' is not found", NotLoaded),
        ("Failed to process the request(s): Stub process is not healthy.", DeadStub),
        ("something else", Internal),
    ],
)
async def test_errors_of_triton_are_recognised_by_their_text(
    client: TritonClient, server: FakeServer, text: str, kind: type[ServiceError]
) -> None:
    server.responses = [triton_error(text)]
    with pytest.raises(kind) as raised:
        await generate(client)
    assert text not in raised.value.message


@pytest.mark.parametrize(
    "answer",
    [
        response(AUDIO=np.zeros((1, 640), np.float32)),
        response(STATUS="no JSON"),
        response(STATUS="[]"),
        status(state="ready"),
        status(state="failed"),
        status(state="loading", bytes=5),
        status(),
    ],
)
async def test_a_response_of_another_program_is_an_error(
    client: TritonClient, server: FakeServer, answer: Any
) -> None:
    server.responses = [answer]
    with pytest.raises(EngineUnavailable, match="responses that the gateway cannot read"):
        await client.status(MODEL)


async def test_audio_without_its_codes_is_an_error(
    client: TritonClient, server: FakeServer
) -> None:
    facts = json.dumps({"state": "generating"})
    server.responses = [response(STATUS=facts, AUDIO=np.zeros((1, 640), np.float32))]
    with pytest.raises(EngineUnavailable, match="responses that the gateway cannot read"):
        await generate(client)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({**READY, "queued": 0, "running": 0, "fallback": None}, Ready(0, 16, "0123")),
        ({**READY, "queued": 2, "running": 1, "fallback": "no"}, Ready(3, 16, "0123", "no")),
        (
            {**READY, "queued": 2, "running": 1, "fallback": None, "full_for": 9},
            Ready(3, 16, "0123", full_for=9),
        ),
        ({"state": "loading", "bytes": 5, "total_bytes": None}, Loading(5)),
    ],
)
async def test_a_status_is_read(
    client: TritonClient, server: FakeServer, values: Any, expected: Any
) -> None:
    server.responses = [status(**values)]
    assert await client.status(MODEL) == expected


async def test_the_status_of_a_failed_engine_has_its_error(
    client: TritonClient, server: FakeServer
) -> None:
    error = WeightsMissing("The weights are not here.")
    server.responses = [status(state="failed", **error.data(), queued=0, running=0)]
    found = await client.status(MODEL)
    assert isinstance(found, Failed)
    assert type(found.error) is WeightsMissing and found.error.data() == error.data()


async def test_a_stub_without_a_status_is_dead(client: TritonClient, server: FakeServer) -> None:
    with pytest.raises(DeadStub):
        await client.status(MODEL)


async def test_a_triton_that_is_down_is_unavailable() -> None:
    client = TritonClient("127.0.0.1:1", 10, "")
    with pytest.raises(TritonUnavailable):
        await client.catalogue()
    await client.close()
