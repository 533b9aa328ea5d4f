"""A variant's responses, with stand-ins for Triton's Python backend and for the engine process."""

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from musicgen_engine.messages import (
    EngineReport,
    EngineState,
    LoadingState,
    QueuedState,
    ReadyState,
)
from protocol import tracing
from protocol.errors import GenerationFailed

FREE = 50_000_000  # bytes of shared memory
SONG = {"PROMPT": b"piano", "DURATION": np.float32(300)}  # 38 MB for each channel


class Engine:
    """It has a state and keeps what it gets."""

    state: EngineState = LoadingState()

    def __init__(self, *_: Any) -> None:
        self.sinks: list[Any] = []

    def report(self) -> EngineReport:
        return EngineReport(self.state, 0, 0)

    def submit(self, _: Any, sink: Any) -> None:
        self.sinks.append(sink)

    def stop(self) -> None: ...


class Request:
    def __init__(self, **inputs: Any) -> None:
        self.errors: list[str] = []
        self._inputs = inputs

    def get_response_sender(self) -> Any:
        return self

    def send(self, response: Any, flags: int) -> None:
        if response.error:
            self.errors.append(response.error)

    def request_id(self) -> str:
        return "mine"

    def correlation_id(self) -> int:
        return 0

    def parameters(self) -> str:
        return "{}"

    def inputs(self) -> list[Any]:
        def tensor(name: str, value: Any) -> Any:
            return SimpleNamespace(name=lambda: name, as_numpy=lambda: np.array([value]))

        return [tensor(*one) for one in self._inputs.items()]


class Tensor:
    def __init__(self, name: str, array: Any) -> None:
        self.as_numpy = lambda: array


def response(outputs: Any = (), error: str | None = None) -> Any:
    return SimpleNamespace(outputs=outputs, error=error)


@pytest.fixture
def variant(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A variant that has begun."""
    codes = dict.fromkeys(("INTERNAL", "UNAVAILABLE", "INVALID_ARG"), 0)
    error = type("TritonError", (), {"__new__": lambda _cls, message, _code: message, **codes})
    pb_utils: Any = SimpleNamespace(
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=1,
        InferenceResponse=response,
        TritonError=error,
        Tensor=Tensor,
        MetricFamily=lambda **_: SimpleNamespace(Metric=lambda labels: None),
    )
    pb_utils.MetricFamily.GAUGE = pb_utils.MetricFamily.COUNTER = 0
    memory = SimpleNamespace(free_memory=lambda: FREE)
    backend: Any = SimpleNamespace(shared_memory=memory)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", pb_utils)
    monkeypatch.setitem(sys.modules, "c_python_backend_utils", backend)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    module = importlib.import_module("musicgen_engine.stub.variant")
    monkeypatch.setattr(module, "EngineProcess", Engine)
    model = module.VariantModel()
    config = json.dumps({"parameters": {}})
    names = {"model_name": "tiny", "model_version": "1", "model_repository": "/nowhere"}
    model.initialize({**names, "model_config": config})
    yield model
    model.finalize()


def ready(channels: int) -> ReadyState:
    return ReadyState("abc", "cpu", "float32", "eager", None, 16, channels, 4, False, 32_000)


@pytest.mark.parametrize(
    ("state", "refused"), [(ready(1), False), (ready(2), True), (LoadingState(), True)]
)
def test_a_song_without_room_for_its_channels_is_refused_early(
    variant: Any, state: EngineState, refused: bool
) -> None:
    variant._engine.state = state
    request = Request(**SONG)
    variant.execute([request])
    assert (len(request.errors), len(variant._engine.sinks)) == ((1, 0) if refused else (0, 1))


@pytest.mark.parametrize("stream", [False, True])
def test_each_span_of_a_song_that_fails_ends(
    variant: Any, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = list[str](), list[str]()

    class Processor(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            begun.append(span.name)

        def on_end(self, span: Any) -> None:
            ended.append(span.name)

    provider = TracerProvider()
    provider.add_span_processor(Processor())
    monkeypatch.setattr(tracing, "tracer", provider.get_tracer("test"))
    variant._engine.state = ready(1)
    request = Request(**SONG, STREAM=stream)
    variant.execute([request])
    [sink] = variant._engine.sinks
    sink.status(QueuedState(1))
    sink.error(GenerationFailed("why"))
    assert begun == ended == ["queued"] and len(request.errors) == 1
