"""The application: its routes, middlewares and services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway import cors, openapi
from gateway.access import Access
from gateway.addresses import Resolve, resolve
from gateway.audio.normalizer import Normalizer
from gateway.audio.transcoder import Transcoder
from gateway.audio.upload import Decoder
from gateway.contract import Triton
from gateway.default_model import DefaultModel
from gateway.generation import Generation
from gateway.metrics import Metrics
from gateway.middleware import add_headers, authorize, errors_to_json, log_access, trace
from gateway.models import Models
from gateway.pools import Pools
from gateway.progress import Jobs
from gateway.routes import PUBLIC_PATHS, routes
from gateway.services import SERVICES, Services
from gateway.settings import GatewaySettings
from gateway.triton import TritonClient

# Bytes of JSON, or of a text in a form. The receipt of a song of an hour takes 960 KB if its melody
# has 50 columns a second.
MAX_BODY = 1024**2


def create_app(
    settings: GatewaySettings,
    connect: Callable[[str], Triton] | None = None,
    resolve: Resolve = resolve,
) -> web.Application:
    """The gateway in front of the servers that the settings name. `connect` makes the client of an
    address."""
    client = connect or partial(
        TritonClient,
        generate_timeout=settings.generate_timeout,
        admin_key=settings.triton_admin_key,
        certificates=settings.triton_tls,
    )
    page, document = page_routes(settings.web), openapi.describe(settings.max_duration)

    async def run_services(app: web.Application) -> AsyncIterator[None]:
        metrics = Metrics()
        models: Models | Pools = (
            Pools(settings, metrics, client, resolve)
            if settings.triton_pools
            else Models(client(settings.triton_grpc), settings)
        )
        default_model = DefaultModel(models, settings)
        app[SERVICES] = Services(
            settings=settings,
            access=Access(settings.api_keys, settings.max_songs_per_key),
            decoder=Decoder(),
            default_model=default_model,
            generation=Generation(models, settings, metrics),
            jobs=Jobs(),
            metrics=metrics,
            models=models,
            normalizer=Normalizer(),
            openapi=document,
            public_paths=frozenset(PUBLIC_PATHS).union(route.path for route in page),
            transcoder=Transcoder(),
        )
        watch = asyncio.create_task(default_model.watch())
        yield
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
        await models.close()

    without_slash = web.normalize_path_middleware(append_slash=False, remove_slash=True)
    middlewares = [trace, log_access, errors_to_json, without_slash, cors.check_origin, authorize]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY)
    app.cleanup_ctx.append(run_services)
    app.on_response_prepare.extend([add_headers, cors.add_headers])
    app.add_routes([*routes, *page])
    return app


def page_routes(folder: Path) -> list[web.RouteDef]:
    """A route for each file of the page that exists at the start; `/` is index.html."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    routes = [web.get(f"/{path.relative_to(folder)}", _serve(path)) for path in files]
    return [web.get("/", _serve(folder / "index.html")), *routes]


def _serve(path: Path) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.FileResponse(path, headers={"Cache-Control": "no-cache"})

    return handler
