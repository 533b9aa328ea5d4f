"""A song is one trace: its request, its states in the gateway and in the engine, its resumption."""

import base64
import os
import re
import signal
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import aiohttp
import pytest
import tritonclient.grpc as triton_grpc
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.conftest import Stack, repository_with, serving, until
from tests.stack.client import SHORT, tensors
from tests.stack.songs import GOOD, post

Span = tuple[str, str, Any]  # service, name and span
TRITON = "triton-inference-server"


def from_json(body: bytes) -> Any:
    """As Triton sends it. Ids are hexadecimal there, and base64 in the JSON of protobuf."""
    for_protobuf = re.sub(
        rb'("(?:traceId|spanId|parentSpanId)": ?")([0-9a-f]*)"',
        lambda match: match[1] + base64.b64encode(bytes.fromhex(match[2].decode())) + b'"',
        body,
    )
    return json_format.Parse(for_protobuf, ExportTraceServiceRequest(), ignore_unknown_fields=True)


class Collector:
    """An OpenTelemetry collector on this machine."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                is_json = self.headers["Content-Type"] == "application/json"
                read = from_json if is_json else ExportTraceServiceRequest.FromString
                collector.add(read(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, request: Any) -> None:
        for resource in request.resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append((names["service.name"], span.name, span))

    def trace(self, trace_id: str) -> list[Span]:
        found = [one for one in self.spans if one[2].trace_id.hex() == trace_id]
        return sorted(found, key=lambda one: one[2].start_time_unix_nano)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


@pytest.fixture(scope="module")
def traced(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    repository = repository_with(tmp_path_factory.mktemp("traced") / "models", "musicgen-tiny")
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with serving(repository, **environment) as stack:
        yield stack


def traceparent(number: int) -> tuple[str, dict[str, str]]:
    """The id of a trace, and the header of its caller."""
    trace_id = f"{number:032x}"
    return trace_id, {"traceparent": f"00-{trace_id}-00000000000000ab-01"}


async def test_a_song_is_one_trace(traced: Stack, collector: Collector) -> None:
    trace_id, headers = traceparent(1)
    await post(traced, GOOD, headers=headers)
    until(lambda: "POST /generate" in {name for _, name, _ in collector.trace(trace_id)})
    until(lambda: ("musicgen-tiny", "generating") in spans(collector, trace_id))
    found = collector.trace(trace_id)
    [request] = [span for _, name, span in found if name == "POST /generate"]
    assert request.parent_span_id.hex() == "00000000000000ab"
    ours = [one for one in found if one[0] != TRITON and one[2] is not request]
    assert {span.parent_span_id for *_, span in ours} == {request.span_id}
    for service in ("gateway", "musicgen-tiny"):
        [song] = [span for one, name, span in found if (one, name) == (service, "generating")]
        assert [event.name for event in song.events] == ["first audio"]


async def test_a_trace_shows_the_resumption_of_its_song(
    traced: Stack, collector: Collector
) -> None:
    trace_id, headers = traceparent(2)
    song = {**GOOD, "duration": 60, "pace": "playback"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{traced.url}/generate", json=song) as answer,
    ):
        await answer.content.readexactly(64_000)
        os.kill(traced.engine(), signal.SIGKILL)
        until(lambda: ("gateway", "resuming") in spans(collector, trace_id))
    until(lambda: spans(collector, trace_id).count(("gateway", "generating")) == 2)
    states = [name for service, name in spans(collector, trace_id) if service == "gateway"]
    begin, end = states.index("generating"), len(states) - 1
    assert states[begin + 1] == "resuming" and states[end] == "generating"


def spans(collector: Collector, trace_id: str) -> list[tuple[str, str]]:
    return [(service, name) for service, name, _ in collector.trace(trace_id)]


def test_triton_passes_the_trace_of_a_caller_on(traced: Stack, collector: Collector) -> None:
    trace_id, headers = traceparent(3)
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{traced.triton_grpc}") as client:
        inputs = tensors(triton_grpc, {"MODEL": "musicgen-tiny", **SHORT})
        client.infer("musicgen", inputs, headers=headers)
    until(lambda: ("musicgen-tiny", "generating") in spans(collector, trace_id))


async def test_tritons_own_spans_belong_to_the_song(traced: Stack, collector: Collector) -> None:
    """Those of its request alone: the gateway's questions for a status make none."""
    trace_id, headers = traceparent(5)
    await post(traced, GOOD, headers=headers)

    def exported() -> dict[str, Any]:
        spans = [one for one in collector.trace(trace_id) if one[0] == TRITON]
        return {name: span for _, name, span in spans if len(spans) == 3}

    until(lambda: exported().keys() == {"InferRequest", "musicgen-tiny", "compute"})
    until(lambda: "POST /generate" in {name for _, name, _ in collector.trace(trace_id)})
    [request] = [span for _, name, span in collector.trace(trace_id) if name == "POST /generate"]
    assert exported()["InferRequest"].parent_span_id == request.span_id


async def test_monitors_leave_no_trace(traced: Stack, collector: Collector) -> None:
    trace_id, headers = traceparent(4)
    async with aiohttp.ClientSession(headers=headers) as session:
        for path in ("/healthz", "/metrics", "/models"):
            async with session.get(traced.url + path) as answer:
                assert answer.status == 200
    until(lambda: spans(collector, trace_id))
    assert spans(collector, trace_id) == [("gateway", "GET /models")]
