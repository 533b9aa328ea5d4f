"""Requests to Triton as MLOps tooling makes them, by each protocol and client."""

import json
from collections.abc import Sequence
from queue import Queue
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_aio
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from tests.conftest import Stack

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
            answer = answers.get(timeout=120)
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


async def infer(stack: Stack, values: dict[str, Any], timeout: float = 60) -> Any:
    async with triton_aio.InferenceServerClient(f"127.0.0.1:{stack.triton_grpc}") as client:
        inputs = tensors(triton_aio, values)
        return await client.infer("musicgen", inputs, client_timeout=timeout)


def zeros(codebooks: int, frames: int) -> Any:
    return np.zeros((codebooks, frames), np.int32)
