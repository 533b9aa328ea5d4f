"""The Triton model of each variant: tensors ↔ requests. It is decoupled and answers from other
threads.

The variant's `1/model.py` imports `VariantModel` as `TritonPythonModel`. The weights live in the
engine process, which this process starts and watches.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from musicgen_engine import logs
from musicgen_engine.config import ModelConfig
from musicgen_engine.messages import FailedState, ReadyState
from musicgen_engine.settings import EngineSettings
from musicgen_engine.stub import tensors
from musicgen_engine.stub.engine_process import EngineProcess
from musicgen_engine.stub.fork_server import ForkServer
from musicgen_engine.stub.metrics import TritonMetrics
from musicgen_engine.stub.response import ChangeResponse, ResponseStream
from protocol import tracing
from protocol.errors import InvalidField, ServiceError, SongEnded
from protocol.parser import parse_request
from protocol.section import check_change
from protocol.tensors import OUTPUTS, VARIANT_INPUTS, from_json, from_tensors

SAMPLE_BYTES = 4
MAX_CHANNELS = 2


class VariantModel:
    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        tensors.declare(config, VARIANT_INPUTS, OUTPUTS)
        config.set_model_transaction_policy({"decoupled": True})
        return config

    def initialize(self, args: dict[str, str]) -> None:
        settings = EngineSettings.from_environment(os.environ)
        logs.configure(args["model_name"], settings.log_format)
        tracing.configure(args["model_name"], settings.collector)
        self._max_duration = settings.max_duration
        config = json.loads(args["model_config"])["parameters"]
        parameters = {name: value["string_value"] for name, value in config.items()}
        model_config = json.dumps(asdict(ModelConfig.parse(parameters, settings.memory_share)))
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
            if "CHANGE" in inputs:
                return self._change(request.correlation_id(), inputs, response)
            response.stream = bool(inputs.pop("STREAM", [False])[0])
            wanted = parse_request(from_tensors(inputs), self._max_duration)
            if not response.stream:
                tensors.check_room(wanted.samples * self._channels * SAMPLE_BYTES)
            response.frames, response.seed = wanted.frames, wanted.seed
            if number := request.correlation_id():
                self._songs[number] = response
            self._engine.submit(wanted, response)
        except ServiceError as error:
            response.error(error)

    @property
    def _channels(self) -> int:
        """Those of a song; while the model loads, the most that it may have."""
        state = self._engine.report().state
        return state.channels if isinstance(state, ReadyState) else MAX_CHANNELS

    def _change(self, number: int, inputs: dict[str, Any], response: ResponseStream) -> None:
        """Change the song of the request with this number."""
        if others := inputs.keys() - {"CHANGE"}:
            problem = "comes with CHANGE; put it into its JSON, or leave it out"
            raise InvalidField.of_field(min(others), problem)
        values = check_change(from_json("change", bytes(inputs["CHANGE"][0])))
        response.stream = True  # an error comes as data, too
        song = self._songs.get(number)
        if song is None:
            raise SongEnded(f"No song with the sequence id {number} is running here.")
        self._engine.change(song, tuple(values.items()), ChangeResponse(response, song))

    def finalize(self) -> None:
        self._engine.stop()
        self._metrics.close()
