"""Pages of other origins that may ask: CORS, as the Fetch standard has it."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.keys import SETTINGS

ANY = "*"
PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Request-Id",
    "Access-Control-Max-Age": "600",  # seconds
}
EXPOSED = (
    "Content-Disposition", "Retry-After", "X-Model", "X-Request-Id", "X-Revision", "X-Seed",
)  # fmt: skip


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """An `on_response_prepare` signal."""
    origins = request.app[SETTINGS].cors_origins
    if origins and ANY not in origins:
        response.headers["Vary"] = "Origin"  # caches keep one answer for each
    if _is_allowed(request):
        origin = ANY if ANY in origins else request.headers["Origin"]
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = ", ".join(EXPOSED)


@web.middleware
async def answer_preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A browser asks before it sends JSON or a key, and shows no key then."""
    asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    if asks and _is_allowed(request):
        return web.Response(status=204, headers=PREFLIGHT_HEADERS)
    return await handler(request)


def _is_allowed(request: web.Request) -> bool:
    origins, origin = request.app[SETTINGS].cors_origins, request.headers.get("Origin")
    return origin is not None and (ANY in origins or origin in origins)
