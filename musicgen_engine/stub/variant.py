"""What Triton runs for each variant: tensors ↔ songs. Decoupled; it answers from other threads.

The variant's `1/model.py` imports `TritonPythonModel` from here. This process never imports torch:
the weights live in the engine process, which this one starts and watches.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from musicgen_engine import logs
from musicgen_engine.stub import tensors
from musicgen_engine.stub.engine_process import EngineProcess
from protocol.errors import ServiceError
from musicgen_engine.config import Placement
from protocol.settings import Settings
from protocol.request import Codes, Samples, Song
from protocol.tensors import INPUTS, OUTPUTS, STREAM
from musicgen_engine.stub.metrics import Metrics


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        tensors.declare(config, [*INPUTS, STREAM], OUTPUTS)
        config.set_model_transaction_policy({"decoupled": True})
        return config

    def initialize(self, args: dict[str, str]) -> None:
        settings = Settings.of(os.environ)
        logs.configure(args["model_name"], settings.log_format)
        self._max_duration = settings.max_duration
        config = json.loads(args["model_config"])["parameters"]
        parameters = {name: value["string_value"] for name, value in config.items()}
        placement = json.dumps(asdict(Placement.of(parameters)))
        folder = str(Path(args["model_repository"]) / args["model_version"])
        module = [sys.executable, "-m", "musicgen_engine.core"]
        checkpoint = parameters.get("checkpoint", "")
        metrics = Metrics(args["model_name"], args["model_version"])
        command = [*module, folder, checkpoint, placement]
        self._engine = EngineProcess(command, metrics.tell)

    def is_ready(self) -> bool:
        """For the health checks of Triton 26.03 and newer: false once the engine failed. While it
        loads, songs may be sent: they wait."""
        return bool(self._engine.status()["state"] != "failed")

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            try:
                self._accept(request)
            except ServiceError as error:
                tensors.send_error(request.get_response_sender(), error)

    def _accept(self, request: Any) -> None:
        inputs = tensors.values(request)
        if not inputs:
            status = {"STATUS": self._engine.status()}
            return tensors.send(request.get_response_sender(), status, last=True)
        stream = bool(inputs.pop("STREAM", False))
        song = Song.parse(inputs, self._max_duration)
        self._engine.submit(song, Reply(request, song.frames, song.seed, stream))

    def finalize(self) -> None:
        self._engine.stop()


class Reply:
    """One song's way back to its client."""

    def __init__(self, request: Any, frames: int, seed: int, stream: bool) -> None:
        self._request = request
        self.request_id = tensors.request_id(request)
        self._sender = request.get_response_sender()
        self._frames, self._seed = frames, seed
        self._stream = stream
        # Held back until the end unless the client streams.
        self._audio: list[Samples] = []
        self._codes: list[Codes] = []
        self._ended = False
        self._lock = threading.Lock()

    @property
    def cancelled(self) -> bool:
        with self._lock:  # after the last response Triton crashes on this question
            return not self._ended and bool(self._request.is_cancelled())

    def status(self, status: dict[str, Any]) -> None:
        if self._stream:
            self._send({"STATUS": status}, last=False)

    def chunk(
        self,
        audio: Samples,
        codes: Codes,
        sample_rate: int,
        revision: str,
        status: dict[str, Any],
        last: bool,
    ) -> None:
        self._audio.append(audio)
        self._codes.append(codes)
        if self._stream or last:
            outputs = {
                "AUDIO": np.concatenate(self._audio, axis=1),
                "CODES": np.concatenate(self._codes, axis=1),
                "SAMPLE_RATE": sample_rate,
                "FRAMES": self._frames,
                "SEED": self._seed,
                "REVISION": revision,
                "STATUS": status,
            }
            self._audio.clear()
            self._codes.clear()
            self._send(outputs, last)

    def error(self, error: ServiceError) -> None:
        with self._lock:
            tensors.send_error(self._sender, error)
            self._ended = True

    def _send(self, outputs: dict[str, Any], last: bool) -> None:
        with self._lock:
            tensors.send(self._sender, outputs, last)
            self._ended = last
