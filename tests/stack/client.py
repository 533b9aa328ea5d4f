"""Requests to Triton by each protocol and client that MLOps tools use."""

import json
from collections.abc import Sequence
from queue import Queue
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_aio
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from tests.conftest import TIMEOUT, Stack, until

TYPES = {
    "MODEL": "BYTES",
    "PROMPT": "BYTES",
    "DURATION": "FP32",
    "SEED": "INT64",
    "TEMPERATURE": "FP32",
    "TOP_K": "INT32",
    "TOP_P": "FP32",
    "CFG_COEF": "FP32",
    "NEGATIVE_PROMPT": "BYTES",
    "EXTEND_STRIDE": "FP32",
    "PACE": "BYTES",
    "TIMELINE": "BYTES",
    "CHANGE": "BYTES",
    "PROMPT_AUDIO": "FP32",
    "PROMPT_SAMPLE_RATE": "INT32",
    "MELODY": "FP32",
    "MELODY_SAMPLE_RATE": "INT32",
    "SEPARATE": "BOOL",
    "CHROMA": "INT32",
    "REVISION": "BYTES",
    "CODES": "INT32",
    "START": "INT64",
    "ARRIVAL_TIME": "INT64",
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
    inputs = []
    for name, value in values.items():
        value = value.encode() if isinstance(value, str) else value
        is_matrix = name in ("CODES", "PROMPT_AUDIO", "MELODY", "CHROMA")
        array = np.array(value if is_matrix else [value], NUMPY[TYPES[name]])
        inputs.append(client.InferInput(name, list(array.shape), TYPES[name]))
        inputs[-1].set_data_from_numpy(array)
    return inputs


def stream(stack: Stack, model: str, values: dict[str, Any], request_id: str = "") -> list[Any]:
    """All responses of a decoupled model to the synchronous gRPC client; an error is the last."""
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
            answer = answers.get(timeout=TIMEOUT)
            received.append(answer)
            if isinstance(answer, InferenceServerException):
                return received
            if answer.get_response().parameters["triton_final_response"].bool_param:
                return received


def status(answer: Any) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(answer.as_numpy("STATUS")[0])
    return status


def model_status(stack: Stack, model: str = "musicgen-tiny") -> dict[str, Any]:
    """The status of the model: the response to a request without inputs."""
    [answer] = stream(stack, model, {})
    return status(answer)


def chunks(answers: Sequence[Any]) -> list[Any]:
    """The responses of a stream that hold audio."""
    return [answer for answer in answers if answer.as_numpy("AUDIO") is not None]


def joined(answers: Sequence[Any], name: str) -> Any:
    """An output of all chunks, joined along time."""
    return np.concatenate([answer.as_numpy(name) for answer in answers], axis=1)


def front(stack: Stack, values: dict[str, Any], request_id: str = "") -> Any:
    """The response of `musicgen` to a plain HTTP infer."""
    with triton_http.InferenceServerClient(f"127.0.0.1:{stack.triton_http}") as client:
        inputs = tensors(triton_http, {"MODEL": "musicgen-tiny", **values})
        return client.infer("musicgen", inputs, request_id=request_id)


SONG = {"PROMPT": "slow piano", "DURATION": 2.5, "SEED": 7}
SHORT = {**SONG, "DURATION": 0.5}
FOREVER = {**SONG, "DURATION": 300}  # to be cancelled


async def infer(stack: Stack, values: dict[str, Any], timeout: float = TIMEOUT) -> Any:
    """The response of `musicgen` to a plain infer over gRPC."""
    async with triton_aio.InferenceServerClient(f"127.0.0.1:{stack.triton_grpc}") as client:
        inputs = tensors(triton_aio, values)
        return await client.infer("musicgen", inputs, client_timeout=timeout)


def zeros(codebooks: int, frames: int) -> Any:
    return np.zeros((codebooks, frames), np.int32)


def lines(stack: Stack, request_id: str) -> list[dict[str, Any]]:
    """The log's lines about a request."""
    found = [json.loads(line) for line in stack.log.read_text().splitlines() if request_id in line]
    assert all(line["request_id"] == request_id for line in found)
    return found


def ending(stack: Stack, request_id: str) -> str:
    """How the engine ended a song, once its log has that."""

    def messages() -> list[str]:
        return [
            str(one["message"]) for one in lines(stack, request_id) if one["logger"] == "engine"
        ]

    [message] = until(messages)
    return str(message)
