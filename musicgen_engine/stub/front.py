"""The Triton model `musicgen`: every variant behind one plain request and one plain response.

It serves tools that do not know decoupled models. It relays to the variant through Triton (business
logic scripting) with one thread per request: coroutines of one instance would wait for one another.
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

from musicgen_engine.logs import about, configure
from musicgen_engine.settings import EngineSettings
from musicgen_engine.stub import tensors
from musicgen_engine.stub.fork_server import ForkServer
from protocol.errors import (
    Cancelled,
    EngineUnavailable,
    GenerationFailed,
    InvalidField,
    ModelNotLoaded,
    QueueFull,
    ServiceError,
    UnknownModel,
)
from protocol.tensors import FRONT_INPUTS, OUTPUTS

# A cancelled request is noticed between the responses of a stream; from Triton 25.04 on its song
# can then be stopped. Before 25.02 an error that is not the first response of a stream never
# arrives here, and the request would wait for ever: older variants are asked for one response.
STREAM = hasattr(ResponseIterator, "cancel")
# Each request waits in a thread of its own, and until the first response also in one of the 32
# threads in which Triton carries everything that this model sends.
MAX_REQUESTS = 64 if STREAM else 24

log = logging.getLogger("musicgen")


class FrontModel:
    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        with suppress(OSError):  # a variant that needs it starts it, too, and reports the error
            ForkServer().start()  # as early as possible: engines wait for its imports
        tensors.declare(config, FRONT_INPUTS, OUTPUTS)
        return config

    def initialize(self, args: dict[str, str]) -> None:
        # Imported here: it takes a third of a second, and the fork server should start before.
        from musicgen_engine.repository import Repository

        configure(args["model_name"], EngineSettings.from_environment(os.environ).log_format)
        links = Path(args["model_repository"]).parent
        self._repository = Repository(Path(os.environ["MODEL_REPOSITORY"]), links)
        self._repository.variants()  # which makes their links
        self._places = threading.BoundedSemaphore(MAX_REQUESTS)

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            # Not a pool: a variant that never answers would keep the pool from ending.
            threading.Thread(target=self._answer, args=(request,), daemon=True).start()

    def _answer(self, request: Any) -> None:
        sender = request.get_response_sender()
        try:
            inputs = tensors.inputs(request, FRONT_INPUTS)
            if inputs:
                with self._place():
                    outputs = self._relay(request, inputs)
            else:
                outputs = [tensors.tensor("STATUS", self._repository.catalogue())]
            tensors.send(sender, outputs, last=True)
        except ServiceError as error:
            tensors.send_error(sender, error)
        except Exception:
            extra = about(tensors.request_id(request))
            log.exception("the request could not be answered", extra=extra)
            tensors.send_error(sender, GenerationFailed("it could not be relayed; see the log"))

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            again = f"ask again in {QueueFull.default_retry_after} s"
            raise QueueFull(f"{MAX_REQUESTS} requests wait already; {again}")
        try:
            yield
        finally:
            self._places.release()

    def _relay(self, request: Any, inputs: dict[str, Any]) -> list[Any]:
        """The whole song."""
        relayed = [t for t in request.inputs() if t.name() != "MODEL"]
        responses = pb_utils.InferenceRequest(
            request_id=tensors.request_id(request),
            parameters=tensors.parameters_of(request),
            model_name=self._variant(inputs),
            requested_output_names=[output["name"] for output in OUTPUTS],
            inputs=[*relayed, pb_utils.Tensor("STREAM", np.array([STREAM]))],
        ).exec(decoupled=True)
        chunks = []
        for response in responses:
            if response.has_error():
                unavailable = EngineUnavailable("the model does not answer; ask again later")
                raise ServiceError.tagged(response.error().message()) or unavailable
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
            raise InvalidField.of_field("model", "is missing; name the variant, as musicgen-small")
        name = bytes(inputs["MODEL"][0]).decode(errors="replace")
        known = self._repository.names()
        if name not in known:
            raise UnknownModel(f"MODEL {name[:100]!r} is none of {', '.join(known)}")
        # Newer Tritons raise for a model that is not loaded, and ask a loaded one for its
        # `is_ready`: if that is false, no request gets through to it from here.
        with suppress(pb_utils.TritonModelException):
            if pb_utils.is_model_ready(name):
                return name
        raise ModelNotLoaded(f"MODEL {name} is not ready; load it, or ask it for its STATUS")


def _joined(name: str, chunks: list[dict[str, Any]]) -> Any:
    """An output of all chunks, joined along time and removed from them."""
    return pb_utils.Tensor(name, np.concatenate([c.pop(name).as_numpy() for c in chunks], axis=1))
