"""Traces of songs, for OpenTelemetry. Without a collector's address, spans cost nothing."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

HEADER = "traceparent"  # W3C Trace Context
W3C = TraceContextTextMapPropagator()
tracer = trace.get_tracer("audiocraft-service")


def configure(service: str, collector: str) -> None:
    """Send the spans of this process to a collector's address, if there is one."""
    if not collector:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": service, "host.name": socket.gethostname()})
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(f"{collector.rstrip('/')}/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def parent(headers: Mapping[str, str]) -> Context:
    """The context of the caller's span, by its header."""
    return W3C.extract(headers)


def headers() -> dict[str, str]:
    """The header with the span of the caller, for requests to others."""
    carrier: dict[str, str] = {}
    W3C.inject(carrier)
    return carrier


class Stages:
    """A span for each state of a song in turn, with an event for the first audio in it."""

    def __init__(self, context: Context | None = None) -> None:
        self._context = context
        self._state = ""
        self._span: trace.Span = trace.INVALID_SPAN
        self._silent = True

    def enter(self, state: str) -> None:
        if state not in (self._state, "done"):
            self.end()
            self._state, self._span = state, tracer.start_span(state, self._context)
            self._silent = True

    def audio(self) -> None:
        self.enter("generating")  # the state of a short song goes from queued to done
        if self._silent:
            self._span.add_event("first audio")
            self._silent = False

    def end(self, error: Exception | None = None) -> None:
        if error is not None:
            self._span.set_status(trace.StatusCode.ERROR, str(error))
        self._span.end()
        self._state = ""
