"""The parts of the application that its handlers use, under one typed key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.access import Access
from gateway.audio.normalizer import Normalizer
from gateway.audio.transcoder import Transcoder
from gateway.audio.upload import Decoder
from gateway.default_model import DefaultModel
from gateway.generation import Generation
from gateway.metrics import Metrics
from gateway.models import Models
from gateway.pools import Pools
from gateway.progress import Jobs
from gateway.settings import GatewaySettings
from protocol.errors import ServiceError


@dataclass(frozen=True)
class Services:
    settings: GatewaySettings
    access: Access
    decoder: Decoder
    default_model: DefaultModel
    generation: Generation
    jobs: Jobs
    metrics: Metrics
    models: Models | Pools
    normalizer: Normalizer
    openapi: dict[str, Any]
    public_paths: frozenset[str]  # they need no key
    transcoder: Transcoder


SERVICES = web.AppKey("services", Services)

# Of a request: its id in the log and in the response.
REQUEST_ID = web.RequestKey("request_id", str)
# The error that is its response, or that broke its response off.
# Without its traceback, which keeps the request and its files until the garbage collector runs.
ERROR = web.RequestKey("error", ServiceError)
# The name of its key; None where the service has no keys.
CALLER: web.RequestKey[str | None] = web.RequestKey("caller")
