"""The gateway's own metrics, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

WAITS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)  # seconds


class Metrics:
    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "gateway_requests",
            "HTTP requests; the status is 'gone' where the client closed the connection before the "
            "end, 'broken_off' where the gateway did",
            ["method", "route", "status"],
            registry=registry,
        )
        self.songs = Gauge(
            "gateway_songs_in_flight", "Songs in progress", ["model"], registry=registry
        )
        self.first_audio = Histogram(
            "gateway_first_audio_seconds",
            "Time from a song's request to its first audio",
            ["model"],
            buckets=WAITS,
            registry=registry,
        )
        self.audio = Counter("gateway_audio_seconds", "Audio sent", ["model"], registry=registry)
        self.resumes = Counter(
            "gateway_resumes",
            "Songs that lost their engine, stub or Triton, and were resumed",
            ["model"],
            registry=registry,
        )
        self.refusals = Counter(
            "gateway_refusals",
            "Refusals of songs by a full server of a pool; another one is asked after each",
            ["model"],
            registry=registry,
        )
        self.servers = Gauge(
            "gateway_servers",
            "Servers of a pool: 'ready', 'unavailable', or 'leaving', whose last songs run",
            ["model", "state"],
            registry=registry,
        )
        self.revisions = Gauge(
            "gateway_revisions",
            "Revisions of the weights on the ready servers of a pool: 1, but in an update",
            ["model"],
            registry=registry,
        )

    def page(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
