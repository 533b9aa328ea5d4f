"""The client of Triton, over gRPC."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
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
    Changed,
    Chunk,
    DeadStub,
    Failed,
    Loading,
    NotLoaded,
    Progress,
    Ready,
    Status,
    Unreachable,
)
from protocol import channel, tracing
from protocol.errors import (
    NO_SHARED_MEMORY,
    Cancelled,
    EngineUnavailable,
    Internal,
    ServiceError,
    SharedMemoryFull,
)
from protocol.request import GenerationRequest
from protocol.section import sections_of
from protocol.tensors import CHANGE, STREAM, to_tensors
from protocol.variant import Variant

log = logging.getLogger(__name__)

ANSWER_TIMEOUT = 10.0
LOAD_TIMEOUT = 120.0
UNLOAD_TIMEOUT = 10.0
CANCEL_INTERVAL = 0.5
CLOSE_TIMEOUT = 2.0
RESTRICTED = "protocol is restricted"  # Triton's text where that key is wrong
CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Finds a restarted Triton within a second; gRPC's own back-off grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    *channel.OPTIONS,
]
UNREACHABLE = ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED", "StatusCode.CANCELLED")
# Triton's own errors about a model, by a part of their text: on a stream they have no code.
MODEL_ERRORS: dict[str, Callable[[str], ServiceError]] = {
    "unknown model": NotLoaded,
    "Stub process": DeadStub,
    "shared memory pool": lambda _model: SharedMemoryFull(NO_SHARED_MEMORY),
}


class TritonClient:
    """`contract.Triton` on a real server. It belongs to the event loop in which it is created."""

    def __init__(
        self,
        address: str,
        generate_timeout: float,
        admin_key: str,
        certificates: Path | None = None,
    ) -> None:
        credentials = channel.credentials(certificates)
        self._client = InferenceServerClient(address, creds=credentials, channel_args=CHANNEL)
        self._generate_timeout = generate_timeout + ANSWER_TIMEOUT  # the gateway's own is first
        self._admin = {channel.ADMIN_KEY: admin_key} if admin_key else None
        self._leaving: set[asyncio.Task[None]] = set()  # from streams that have not ended

    async def close(self) -> None:
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=CLOSE_TIMEOUT)
        await self._client.close()

    async def catalogue(self) -> list[Variant]:
        with _translated(FRONT):
            # A caller that leaves must not cancel it, for the reason that `_stream` gives.
            result = await asyncio.shield(
                self._client.infer(FRONT, [], client_timeout=ANSWER_TIMEOUT)
            )
        with _readable():
            return [Variant(**model) for model in _status(result)["models"]]

    async def loaded(self) -> set[str]:
        return await self._names("READY", "LOADING") - {FRONT}

    async def status(self, model: str) -> Status:
        async with self._stream(model, {}, ANSWER_TIMEOUT) as results:
            statuses = [status async for status, _ in results]
        if not statuses:
            raise DeadStub(model)
        with _readable():
            [status] = statuses
            if status["state"] == "ready":
                songs, revision = status["queued"] + status["running"], status["revision"]
                fallback, full_for = status["fallback"], status["full_for"]
                return Ready(songs, status["slots"], revision, fallback, full_for)
            if status["state"] == "failed":
                return Failed(_engine_error(model, status))
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
        while model in await self._names("UNLOADING"):  # its memory is still in use
            if asyncio.get_running_loop().time() > deadline:
                log.warning("%s does not end its last requests", model)
                return
            await asyncio.sleep(0.1)

    def generate(
        self, model: str, request: GenerationRequest, number: int
    ) -> AsyncGenerator[Progress | Chunk | Changed, None]:
        tensors = {**to_tensors(request), STREAM["name"]: np.array([True])}
        return self._generate(model, tensors, number)

    async def change(self, model: str, number: int, values: dict[str, Any]) -> Changed:
        tensors = {CHANGE["name"]: np.array([json.dumps(values).encode()], np.object_)}
        async with self._stream(model, tensors, ANSWER_TIMEOUT, number) as results:
            answers = [answer async for answer in results]
        if not answers:
            raise DeadStub(model)
        status, result = answers[0]
        if status.get("state") == "failed":
            raise _engine_error(model, status)
        return _changed(status, result)

    async def _generate(
        self, model: str, tensors: dict[str, NDArray[Any]], number: int
    ) -> AsyncGenerator[Progress | Chunk | Changed, None]:
        failure, timeout = None, self._generate_timeout
        async with self._stream(model, tensors, timeout, number, cancel=True) as results:
            async for status, result in results:
                if status.get("state") == "failed":
                    failure = _engine_error(model, status)
                    continue  # to the end of the stream
                if status.get("state") == "changed":
                    yield _changed(status, result)
                    continue
                yield _response(status, result)
        if failure is not None:
            raise failure

    async def _names(self, *states: str) -> set[str]:
        with _translated():
            index = await self._client.get_model_repository_index(
                self._admin, client_timeout=ANSWER_TIMEOUT
            )
        return {model.name for model in index.models if model.state in states}

    @asynccontextmanager
    async def _stream(
        self,
        model: str,
        tensors: dict[str, NDArray[Any]],
        timeout: float,
        number: int = 0,
        cancel: bool = False,
    ) -> AsyncIterator[AsyncIterator[tuple[dict[str, Any], Any]]]:
        """The results of one request to a variant, each after its STATUS.

        `number` names a song. With `cancel`, a caller that leaves early cancels it by that number.
        The stream itself is never cancelled: if it has just ended, Triton then counts the request
        for ever, and never unloads the model. So it is read to its end, also when the caller
        leaves, and after a STATUS that says `failed`; Triton's error response follows it, with the
        same facts as text.
        """
        request_id = logs.request_id.get()
        inputs = [_input(name, tensor) for name, tensor in tensors.items()]
        tensors.clear()
        headers = tracing.headers() if inputs else {}  # questions for a status are in no trace

        async def request() -> AsyncIterator[dict[str, Any]]:
            yield {
                "model_name": model, "inputs": inputs,
                "request_id": request_id, "sequence_id": number,
            }  # fmt: skip
            inputs.clear()  # audio of a client is large, and songs are long

        async def results() -> AsyncGenerator[tuple[dict[str, Any], Any], None]:
            state, failure = "", None
            while response := await responses.next():
                result, error = response
                if error is None:
                    status = _status(result)
                    state = status.get("state", "")
                    yield status, result
                failure = error
            if failure is not None and state != "failed":
                raise failure

        with _translated(model):
            responses = _Responses(
                self._client.stream_infer(request(), stream_timeout=timeout, headers=headers)
            )
            try:
                async with aclosing(results()) as stream:
                    yield stream
            finally:
                if not responses.ended:
                    task = asyncio.create_task(
                        self._leave(model, number if cancel else 0, responses)
                    )
                    self._leaving.add(task)
                    task.add_done_callback(self._leaving.discard)

    async def _leave(self, model: str, song: int, responses: _Responses) -> None:
        """Cancel the song, and read its stream to the end. It may not have reached the model yet,
        so the model is told more than once."""
        rest = asyncio.ensure_future(responses.read_to_end())
        clock = asyncio.get_running_loop().time
        deadline = clock() + ANSWER_TIMEOUT
        while not rest.done() and clock() < deadline:
            if song:
                with suppress(ServiceError):
                    async with self._stream(model, {}, ANSWER_TIMEOUT, song) as results:
                        async for _ in results:
                            pass
            await asyncio.wait({rest}, timeout=CANCEL_INTERVAL)
        responses.cancel()  # of a stub that does not answer


class _Responses:
    """The responses of a stream. A caller that is cancelled while it waits for the next one does
    not cancel the stream, as it would in grpc."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._next = asyncio.ensure_future(anext(stream, None))

    @property
    def ended(self) -> bool:
        done, read = self._next.done(), self._next
        return done and (read.cancelled() or bool(read.exception()) or read.result() is None)

    async def next(self) -> tuple[Any, Any] | None:
        """The next result or error; None at the end."""
        response: tuple[Any, Any] | None = await asyncio.shield(self._next)
        if response is not None:
            self._next = asyncio.ensure_future(anext(self._stream, None))
        return response

    async def read_to_end(self) -> None:
        with suppress(grpc.aio.AioRpcError):
            while await self.next():
                pass

    def cancel(self) -> None:
        if not self.ended:
            self._stream.cancel()


def _input(name: str, value: NDArray[Any]) -> InferInput:
    tensor = InferInput(name, value.shape, np_to_triton_dtype(value.dtype))
    tensor.set_data_from_numpy(value)
    return tensor


@contextmanager
def _readable() -> Iterator[None]:
    """Another program may listen at the address, or another version of this one."""
    try:
        yield
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        log.error("Triton's response cannot be read: %r", error)
        raise EngineUnavailable(
            "The music server sends responses that the gateway cannot read; try again later."
        ) from None


def _status(result: Any) -> dict[str, Any]:
    with _readable():
        return dict(json.loads(result.as_numpy("STATUS")[0]))


def _changed(status: dict[str, Any], result: Any) -> Changed:
    with _readable():
        sections = json.loads(result.as_numpy("TIMELINE")[0])
        return Changed(status["frame"], sections_of(sections))


def _response(status: dict[str, Any], result: Any) -> Progress | Chunk:
    with _readable():
        progress = Progress(status["state"], status.get("position"), status.get("frames", 0))
        audio = result.as_numpy("AUDIO")
        if audio is None:
            return progress
        codes, rate = result.as_numpy("CODES"), int(result.as_numpy("SAMPLE_RATE")[0])
        revision, chroma = result.as_numpy("REVISION")[0].decode(), result.as_numpy("CHROMA")
        return Chunk(audio, codes, rate, revision, progress, chroma)


def _engine_error(model: str, status: dict[str, Any]) -> ServiceError:
    """The error that a STATUS describes, as a client over HTTP sees it."""
    with _readable():
        error = ServiceError.of(status)
    if isinstance(error, Cancelled):
        return EngineUnavailable("The server cancelled the song; try again.")
    if error.status is None:
        log.error("%s: %s", model, error)
        return Internal(error.message)
    return error


@contextmanager
def _translated(model: str | None = None) -> Iterator[None]:
    """Turn the errors of a call into our own; `model` is the one that had to answer it."""
    try:
        yield
    except InferenceServerException as error:
        raise _translation(error.message(), error.status(), model) from None
    except grpc.aio.AioRpcError as error:
        raise _translation(error.details() or "", str(error.code()), model) from None


def _translation(text: str, status: str | None, model: str | None) -> ServiceError:
    if model is not None:
        for part, kind in MODEL_ERRORS.items():
            if part in text:
                return kind(model)
        if status == "StatusCode.DEADLINE_EXCEEDED":
            return DeadStub(model)
    if RESTRICTED in text:  # its status is UNAVAILABLE, but waiting does not help
        log.error("Triton has another TRITON_ADMIN_KEY; give the gateway the same")
        return Internal("The music server refuses the gateway; the gateway's log says why.")
    if status in UNREACHABLE:
        return Unreachable(text)
    log.error("Triton: %s %s: %s", model, status, text)
    return Internal("The music server failed; its log says why.")
