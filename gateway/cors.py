"""CORS: which pages of other origins may use the gateway, by the rules of the Fetch standard."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.services import SERVICES
from protocol.errors import ForeignOrigin

ANY = "*"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Methods": "GET, PATCH, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Request-Id",
    "Access-Control-Max-Age": "600",  # seconds
}
EXPOSED = (
    "Content-Disposition", "Retry-After", "X-Audio-Warning", "X-Content-Source", "X-Loudness",
    "X-Model",
    "X-Request-Id", "X-Revision", "X-Seed",
)  # fmt: skip


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """An `on_response_prepare` signal."""
    origins = request.app[SERVICES].settings.cors_origins
    if origins and ANY not in origins:
        response.headers.add("Vary", "Origin")  # a cache keeps one response for each origin
    if _is_allowed(request):
        origin = ANY if ANY in origins else request.headers["Origin"]
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = ", ".join(EXPOSED)


@web.middleware
async def check_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer preflight requests, and refuse what pages of other origins send without one.

    A browser sends a preflight request, without a key, before JSON or a key. It sends a form of any
    page at once.
    """
    headers = request.headers
    is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in headers
    if is_preflight and _is_allowed(request):
        return web.Response(status=204, headers=PREFLIGHT_HEADERS)
    if request.method not in SAFE_METHODS and _is_foreign(request) and not _is_allowed(request):
        origin = headers.get("Origin", "another site")[:100]
        raise ForeignOrigin(f"Pages of {origin!r} may not ask; CORS_ORIGINS names those that may.")
    return await handler(request)


def _is_foreign(request: web.Request) -> bool:
    """Whether the request comes from a page that is not the gateway's own.

    Only browsers send one of these headers. Sec-Fetch-Site is right behind a proxy, too; browsers
    do not send it over plain HTTP, except to this machine.
    """
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if site:
        return site not in ("same-origin", "none")
    return origin is not None and origin.partition("://")[2] != request.headers.get("Host")


def _is_allowed(request: web.Request) -> bool:
    origins, origin = request.app[SERVICES].settings.cors_origins, request.headers.get("Origin")
    return ANY in origins or origin in origins
