"""The Triton model of each variant: tensors ↔ requests. It is decoupled and answers from other
threads.

The variant's `1/model.py` imports `VariantModel` as `TritonPythonModel`. The weights live in the
engine process, which this process starts and watches.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from musicgen_engine import logs
from musicgen_engine.config import ModelConfig
from musicgen_engine.messages import ChunkReport, FailedState, State
from musicgen_engine.settings import EngineSettings
from musicgen_engine.stub import tensors
from musicgen_engine.stub.engine_process import EngineProcess
from musicgen_engine.stub.fork_server import ForkServer
from musicgen_engine.stub.metrics import TritonMetrics
from protocol.constants import SAMPLE_RATE
from protocol.errors import ServiceError
from protocol.request import GenerationRequest
from protocol.tensors import OUTPUTS, VARIANT_INPUTS, from_tensors

SAMPLE_BYTES = 4


class VariantModel:
    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        tensors.declare(config, VARIANT_INPUTS, OUTPUTS)
        config.set_model_transaction_policy({"decoupled": True})
        return config

    def initialize(self, args: dict[str, str]) -> None:
        settings = EngineSettings.from_environment(os.environ)
        logs.configure(args["model_name"], settings.log_format)
        self._max_duration = settings.max_duration
        config = json.loads(args["model_config"])["parameters"]
        parameters = {name: value["string_value"] for name, value in config.items()}
        model_config = json.dumps(asdict(ModelConfig.parse(parameters)))
        folder = str(Path(args["model_repository"]) / args["model_version"])
        arguments = [folder, parameters.get("checkpoint", ""), model_config]
        self._metrics = TritonMetrics(args["model_name"], args["model_version"])
        self._engine = EngineProcess(ForkServer(), arguments, self._metrics.update)
        # By the caller's number for its request, as long as the engine process has them.
        self._songs: WeakValueDictionary[int, ResponseStream] = WeakValueDictionary()

    def is_ready(self) -> bool:
        """For the health checks of Triton 26.03 and newer: false once the engine failed. While it
        loads, requests may come: they wait."""
        return not isinstance(self._engine.report().state, FailedState)

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            self._accept(request)

    def _accept(self, request: Any) -> None:
        response = ResponseStream(request)
        try:
            inputs = tensors.inputs(request, VARIANT_INPUTS)
            if not inputs:
                if song := self._songs.get(request.correlation_id()):
                    song.cancel()
                return response.send({"STATUS": self._engine.report().json()}, last=True)
            response.stream = bool(inputs.pop("STREAM", [False])[0])
            wanted = GenerationRequest.parse(from_tensors(inputs), self._max_duration)
            if not response.stream:
                tensors.check_room(wanted.samples * SAMPLE_BYTES)
            response.frames, response.seed = wanted.frames, wanted.seed
            if number := request.correlation_id():
                self._songs[number] = response
            self._engine.submit(wanted, response)
        except ServiceError as error:
            response.error(error)

    def finalize(self) -> None:
        self._engine.stop()
        self._metrics.close()


class ResponseStream:
    """The responses to one request. It does not keep the request, whose tensors are in shared
    memory: a song takes much longer than reading them."""

    stream = False  # chunks as they come, and every status between them
    frames: int
    seed: int

    def __init__(self, request: Any) -> None:
        self.request_id = tensors.request_id(request)
        self._sender = request.get_response_sender()
        self._chunks: list[ChunkReport] = []  # kept until the end unless the client streams
        self._cancelled = self._ended = False
        self._lock = threading.Lock()

    @property
    def cancelled(self) -> bool:
        with self._lock:  # after the last response Triton crashes on this question
            return not self._ended and (self._cancelled or bool(self._sender.is_cancelled()))

    def cancel(self) -> None:
        self._cancelled = True

    def status(self, state: State) -> None:
        if self.stream:
            self.send({"STATUS": state.json()}, last=False)

    def chunk(self, chunk: ChunkReport) -> None:
        self._chunks.append(chunk)
        if self.stream or chunk.last:
            outputs = {
                "AUDIO": np.concatenate([chunk.audio for chunk in self._chunks], axis=1),
                "CODES": np.concatenate([chunk.codes for chunk in self._chunks], axis=1),
                "CHROMA": chunk.chroma,
                "SAMPLE_RATE": SAMPLE_RATE,
                "FRAMES": self.frames,
                "SEED": self.seed,
                "REVISION": chunk.revision,
                "STATUS": chunk.state.json(),
            }
            self._chunks.clear()
            self.send(outputs, chunk.last)

    def error(self, error: ServiceError) -> None:
        """A stream gets the error as data first: Triton's own error carries text alone."""
        with suppress(Exception):  # the error itself must go out
            self.status(FailedState.of(error))
        with self._lock:
            tensors.send_error(self._sender, error)
            self._ended = True

    def send(self, outputs: dict[str, Any], last: bool) -> None:
        with self._lock:
            tensors.send(
                self._sender, [tensors.tensor(*output) for output in outputs.items()], last
            )
            self._ended = last
