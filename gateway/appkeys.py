"""What the application carries, by typed key."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.access import Access
from gateway.contract import Triton
from gateway.default_model import DefaultModel
from gateway.generation import Generation
from gateway.metrics import Metrics
from gateway.models import Models
from gateway.progress import Jobs
from gateway.settings import Settings
from gateway.upload import Reader

SETTINGS = web.AppKey("settings", Settings)
ACCESS = web.AppKey("access", Access)
TRITON: web.AppKey[Triton] = web.AppKey("triton")
JOBS = web.AppKey("jobs", Jobs)
OPENAPI: web.AppKey[dict[str, Any]] = web.AppKey("openapi")
READER = web.AppKey("reader", Reader)
GENERATION = web.AppKey("generation", Generation)
METRICS = web.AppKey("metrics", Metrics)
MODELS = web.AppKey("models", Models)
DEFAULT_MODEL = web.AppKey("default_model", DefaultModel)
# Paths that need no key.
PUBLIC: web.AppKey[frozenset[str]] = web.AppKey("public")

# Of a request: what the log and the answer call it.
REQUEST_ID = web.RequestKey("request_id", str)
# Whether its answer ended before it was whole.
BROKEN_OFF = web.RequestKey("broken_off", bool)
# And whose it is, by the name of the key; None where nobody needs one.
CALLER: web.RequestKey[str | None] = web.RequestKey("caller")
