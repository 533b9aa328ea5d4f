"""The application, put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import web

from gateway import cors
from gateway.access import Access
from gateway.appkeys import (
    ACCESS,
    DEFAULT_MODEL,
    GENERATION,
    JOBS,
    METRICS,
    MODELS,
    OPENAPI,
    PUBLIC,
    READER,
    SETTINGS,
    TRITON,
)
from gateway.contract import Triton
from gateway.default_model import DefaultModel
from gateway.generation import Generation
from gateway.metrics import Metrics
from gateway.middleware import add_headers, authorize, errors_to_json, log_access
from gateway.models import Models
from gateway.openapi import describe
from gateway.page import page_routes
from gateway.progress import Jobs
from gateway.routes import PUBLIC_PATHS, routes
from gateway.settings import Settings
from gateway.triton import TritonClient
from gateway.upload import Reader

MAX_BODY = 1024**2


def create_app(settings: Settings, triton: Triton | None = None) -> web.Application:
    """The gateway before `triton`, or before the server that the settings name."""
    around = [log_access, errors_to_json, cors.check_origin, authorize]
    app = web.Application(middlewares=around, client_max_size=MAX_BODY)
    page = page_routes(settings.web)
    app[SETTINGS] = settings
    app[ACCESS] = Access(settings.api_keys, settings.max_songs_per_key)
    app[PUBLIC] = frozenset(PUBLIC_PATHS).union(route.path for route in page)
    app[JOBS] = Jobs()
    app[READER] = Reader()
    app[METRICS] = Metrics()
    app[OPENAPI] = describe(settings.max_duration)
    if triton is None:
        app.cleanup_ctx.append(_connected)
    else:
        app[TRITON] = triton
    app.cleanup_ctx.append(_watched)
    app.on_response_prepare.extend([add_headers, cors.add_headers])
    app.add_routes(routes)
    app.add_routes(page)
    return app


async def _connected(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    client = TritonClient(
        settings.triton_grpc, settings.generate_timeout, settings.triton_admin_key
    )
    app[TRITON] = client
    yield
    await client.close()


async def _watched(app: web.Application) -> AsyncIterator[None]:
    models = app[MODELS] = Models(app[TRITON], app[SETTINGS])
    app[GENERATION] = Generation(app[TRITON], models, app[SETTINGS], app[METRICS])
    default_model = app[DEFAULT_MODEL] = DefaultModel(models, app[SETTINGS])
    watch = asyncio.create_task(default_model.watch())
    yield
    watch.cancel()
    with suppress(asyncio.CancelledError):
        await watch
    await models.close()
