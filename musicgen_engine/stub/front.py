"""The model `musicgen`: every variant behind one plain request and one plain response.

For tools that know nothing of decoupled models. It relays to the variant through Triton (business
logic scripting), one thread a request: coroutines of one instance would wait for one another.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from c_python_backend_utils import ResponseIterator

from musicgen_engine.stub import tensors
from protocol.errors import (
    Cancelled,
    GenerationFailed,
    InvalidInput,
    ModelNotLoaded,
    QueueFull,
    ServiceError,
    UnknownModel,
)
from musicgen_engine.logs import about, configure
from musicgen_engine.repository import Repository
from protocol.settings import Settings
from protocol.tensors import INPUTS, MODEL, OUTPUTS

# A cancelled request is seen between the responses of a stream. That is of no use before Triton
# 25.04, which can then stop the song, and of harm before 25.02, where an error that is not a
# stream's first response never arrives here, and we would wait for ever.
STREAM = hasattr(ResponseIterator, "cancel")
# Relayed at once; each waits in a thread of its own, and until the first response in one of the 32
# threads in which Triton carries all that this model sends.
MAX_REQUESTS = 64 if STREAM else 24

log = logging.getLogger("musicgen")


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        tensors.declare(config, [MODEL, *INPUTS], OUTPUTS)
        return config

    def initialize(self, args: dict[str, str]) -> None:
        configure(args["model_name"], Settings.of(os.environ).log_format)
        self._repository = Repository(Path(args["model_repository"]).parent)
        self._places = threading.BoundedSemaphore(MAX_REQUESTS)

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            # Not a pool: a variant that never answers would keep it from ending.
            threading.Thread(target=self._answer, args=(request,), daemon=True).start()

    def _answer(self, request: Any) -> None:
        sender = request.get_response_sender()
        try:
            inputs = tensors.values(request)
            if inputs:
                with self._place():
                    outputs = self._relay(request, inputs)
            else:
                outputs = [tensors.tensor("STATUS", self._repository.catalogue())]
            sender.send(pb_utils.InferenceResponse(outputs), flags=tensors.FINAL)
        except ServiceError as error:
            tensors.send_error(sender, error)
        except Exception:
            extra = about(tensors.request_id(request))
            log.exception("the request could not be answered", extra=extra)
            tensors.send_error(sender, GenerationFailed("it could not be relayed; see the log"))

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise QueueFull(f"{MAX_REQUESTS} requests wait already; ask again later")
        try:
            yield
        finally:
            self._places.release()

    def _relay(self, request: Any, inputs: dict[str, Any]) -> list[Any]:
        """The whole song."""
        relayed = [t for t in request.inputs() if t.name() != "MODEL"]
        responses = pb_utils.InferenceRequest(
            request_id=tensors.request_id(request),
            model_name=self._variant(inputs),
            requested_output_names=[output["name"] for output in OUTPUTS],
            inputs=[*relayed, pb_utils.Tensor("STREAM", np.array([STREAM]))],
        ).exec(decoupled=True)
        chunks = []
        for response in responses:
            if response.has_error():
                raise ServiceError.parse(response.error().message())
            if request.is_cancelled():
                if STREAM:
                    responses.cancel()
                raise Cancelled("the request was cancelled")
            outputs = {tensor.name(): tensor for tensor in response.output_tensors()}
            if "AUDIO" in outputs:
                chunks.append(outputs)
        return [*(_joined(name, chunks) for name in ("AUDIO", "CODES")), *chunks[-1].values()]

    def _variant(self, inputs: dict[str, Any]) -> str:
        if "MODEL" not in inputs:
            raise InvalidInput("MODEL: missing; name the variant, as musicgen-small")
        name = bytes(inputs["MODEL"]).decode(errors="replace")
        known = self._repository.names()
        if name not in known:
            raise UnknownModel(f"MODEL: {name!r} is none of {', '.join(known)}")
        # Newer Tritons raise for a model that is not loaded, and ask one that is for its
        # `is_ready`: if that is false, no request gets through to it from here.
        with suppress(pb_utils.TritonModelException):
            if pb_utils.is_model_ready(name):
                return name
        raise ModelNotLoaded(f"MODEL: {name} is not ready; load it, or ask it for its STATUS")


def _joined(name: str, chunks: list[dict[str, Any]]) -> Any:
    """An output of all chunks along their time; they lose it."""
    return pb_utils.Tensor(name, np.concatenate([c.pop(name).as_numpy() for c in chunks], axis=1))
