"""Triton over gRPC."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

import grpc.aio
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from gateway import logs
from gateway.contract import (
    FRONT,
    Chunk,
    Failed,
    Held,
    Loading,
    Progress,
    Ready,
    Status,
    Variant,
)
from gateway.errors import (
    DeadStub,
    EngineUnavailable,
    GatewayError,
    InvalidField,
    NotLoaded,
    QueueFull,
    TritonUnavailable,
    WeightsChanged,
    WeightsMissing,
)
from gateway.song import Song

log = logging.getLogger(__name__)

ANSWER_TIMEOUT = 10.0
LOAD_TIMEOUT = 120.0
ADMIN_KEY = "triton-grpc-protocol-admin-key"  # the header that opens what supervisor/ has closed
UNLOAD_TIMEOUT = 10.0
CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Finds a restarted Triton within a second; gRPC's own back-off grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),
]
UNREACHABLE = ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED", "StatusCode.CANCELLED")
ENGINE_ERRORS: dict[str, type[GatewayError]] = {
    "queue_full": QueueFull,
    "weights_missing": WeightsMissing,
    "weights_changed": WeightsChanged,
    "engine_unavailable": EngineUnavailable,
}


class TritonClient:
    """`contract.Triton` on a real server; belongs to the event loop that it is made in."""

    def __init__(self, address: str, generate_timeout: float, admin_key: str) -> None:
        self._client = InferenceServerClient(address, channel_args=CHANNEL)
        self._generate_timeout = generate_timeout + ANSWER_TIMEOUT  # behind the gateway's own
        self._admin = {ADMIN_KEY: admin_key} if admin_key else None

    async def close(self) -> None:
        await self._client.close()

    async def catalogue(self) -> list[Variant]:
        with _translated(FRONT):
            result = await self._client.infer(FRONT, [], client_timeout=ANSWER_TIMEOUT)
        return [Variant(**model) for model in _status(result)["models"]]

    async def loaded(self) -> set[str]:
        return await self._names("READY", "LOADING") - {FRONT}

    async def status(self, model: str) -> Status:
        async with self._stream(model, [], ANSWER_TIMEOUT) as results:
            statuses = [_status(result) async for result in results]
        if not statuses:
            raise DeadStub(model)
        [status] = statuses
        if status["state"] == "ready":
            return Ready(busy=status["queued"] + status["running"] > 0)
        if status["state"] == "failed":
            return Failed(_engine_error(model, status["code"], status["message"]))
        return Loading(status["bytes"], status["total_bytes"])

    async def load(self, model: str) -> None:
        try:
            await self._client.load_model(model, self._admin, client_timeout=LOAD_TIMEOUT)
        except InferenceServerException as error:
            if error.status() in UNREACHABLE:
                raise _translation(error.message(), error.status(), None) from None
            log.error("Triton cannot load %s: %s", model, error.message())
            raise EngineUnavailable(
                f"Triton cannot load {model!r}; the server's log says why."
            ) from None

    async def unload(self, model: str) -> None:
        with _translated():
            await self._client.unload_model(model, self._admin, client_timeout=ANSWER_TIMEOUT)
        deadline = asyncio.get_running_loop().time() + UNLOAD_TIMEOUT
        while model in await self._names("UNLOADING"):  # and its memory in use
            if asyncio.get_running_loop().time() > deadline:
                log.warning("%s does not end its last requests", model)
                return
            await asyncio.sleep(0.1)

    def generate(
        self, model: str, song: Song, held: Held
    ) -> AsyncGenerator[Progress | Chunk, None]:
        return self._answers(model, _inputs(song, held))

    async def _answers(
        self, model: str, inputs: list[InferInput]
    ) -> AsyncGenerator[Progress | Chunk, None]:
        async with self._stream(model, inputs, self._generate_timeout) as results:
            async for result in results:
                status, audio = _status(result), result.as_numpy("AUDIO")
                progress = Progress(
                    status["state"], status.get("position"), status.get("frames", 0)
                )
                if audio is None:
                    yield progress
                else:
                    codes, rate = result.as_numpy("CODES"), int(result.as_numpy("SAMPLE_RATE")[0])
                    revision = result.as_numpy("REVISION")[0].decode()
                    yield Chunk(audio, codes, rate, revision, progress)

    async def _names(self, *states: str) -> set[str]:
        with _translated():
            index = await self._client.get_model_repository_index(
                self._admin, client_timeout=ANSWER_TIMEOUT
            )
        return {model.name for model in index.models if model.state in states}

    @asynccontextmanager
    async def _stream(
        self, model: str, inputs: list[InferInput], timeout: float
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """The results of one request to a decoupled model, which is cancelled on the way out.

        But not once it has ended: Triton may then count it for ever, and never unload the model.
        """
        ended, request_id = False, logs.request_id.get()

        async def request() -> AsyncIterator[dict[str, Any]]:
            yield {"model_name": model, "inputs": inputs, "request_id": request_id}
            inputs.clear()  # somebody's audio is large, and songs are long

        async def results() -> AsyncGenerator[Any, None]:
            nonlocal ended
            failure = None
            async for result, error in answers:
                if error is None:
                    yield result
                failure = error
            ended = True
            if failure is not None:
                raise failure

        with _translated(model):
            answers = self._client.stream_infer(request(), stream_timeout=timeout)
            try:
                async with aclosing(results()) as given:
                    yield given
            finally:
                if not ended:
                    answers.cancel()


def _inputs(song: Song, held: Held) -> list[InferInput]:
    inputs = [
        _input("PROMPT", np.array([song.prompt.encode()], np.object_)),
        _input("DURATION", np.array([song.seconds], np.float32)),
        _input("SEED", np.array([song.seed], np.int64)),
        _input("TEMPERATURE", np.array([song.temperature], np.float32)),
        _input("TOP_K", np.array([song.top_k], np.int32)),
        _input("TOP_P", np.array([song.top_p], np.float32)),
        _input("CFG_COEF", np.array([song.cfg_coef], np.float32)),
        _input("EXTEND_STRIDE", np.array([song.extend_stride], np.float32)),
        _input("STREAM", np.array([True], np.bool_)),
    ]
    if held.revision:
        inputs += [
            _input("CODES", np.concatenate(held.codes, axis=1)),
            _input("REVISION", np.array([held.revision.encode()], np.object_)),
        ]
    elif held.audio:
        inputs += [
            _input("PROMPT_AUDIO", held.audio.samples),
            _input("PROMPT_SAMPLE_RATE", np.array([held.audio.sample_rate], np.int32)),
        ]
    if held.samples:
        inputs.append(_input("START", np.array([held.samples], np.int64)))
    return inputs


def _input(name: str, value: NDArray[Any]) -> InferInput:
    tensor = InferInput(name, value.shape, np_to_triton_dtype(value.dtype))
    tensor.set_data_from_numpy(value)
    return tensor


def _status(result: Any) -> Any:
    return json.loads(result.as_numpy("STATUS")[0])


@contextmanager
def _translated(model: str | None = None) -> Iterator[None]:
    """Turns what a call raises into our errors; `model` is the one that had to answer it."""
    try:
        yield
    except InferenceServerException as error:
        raise _translation(error.message(), error.status(), model) from None
    except grpc.aio.AioRpcError as error:
        raise _translation(error.details() or "", str(error.code()), model) from None


def _translation(text: str, status: str | None, model: str | None) -> GatewayError:
    if model is not None:
        if coded := re.search(r"\[([a-z_]+)\] (.*)", text, re.DOTALL):
            return _engine_error(model, coded[1], coded[2])
        if "unknown model" in text:
            return NotLoaded(model)
        if "Stub process" in text or status == "StatusCode.DEADLINE_EXCEEDED":
            return DeadStub(model)
    if "protocol is restricted" in text:  # said as UNAVAILABLE, but waiting does not help
        log.error("Triton has another TRITON_ADMIN_KEY; give the gateway the same")
        return GatewayError("The music server refuses the gateway; the gateway's log says why.")
    if status in UNREACHABLE:
        return TritonUnavailable()
    log.error("Triton: %s %s: %s", model, status, text)
    return GatewayError("The music server failed; its log says why.")


def _engine_error(model: str, code: str, message: str) -> GatewayError:
    if code in ENGINE_ERRORS:
        return ENGINE_ERRORS[code](message)
    if code == "invalid_input":
        name, _, what = message.partition(": ")
        return InvalidField(f"{name.lower()}: {what}", name.lower())
    if code == "cancelled":
        return EngineUnavailable("The server cancelled the song; try again.")
    log.error("%s: [%s] %s", model, code, message)
    return GatewayError("The model failed on this song; try again or change the prompt.")
