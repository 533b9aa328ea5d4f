"""Pages of other origins that may ask: CORS, as the Fetch standard has it."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.appkeys import SETTINGS
from gateway.errors import ForeignOrigin

ANY = "*"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
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
        response.headers.add("Vary", "Origin")  # caches keep one answer for each
    if ANY in origins or _is_allowed(request):
        origin = ANY if ANY in origins else request.headers["Origin"]
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = ", ".join(EXPOSED)


@web.middleware
async def check_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A browser asks before it sends JSON or a key, and shows no key then; a form it sends unasked
    for any page."""
    asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    if asks and _is_allowed(request):
        return web.Response(status=204, headers=PREFLIGHT_HEADERS)
    if request.method not in SAFE_METHODS and _is_foreign(request) and not _is_allowed(request):
        origin = request.headers["Origin"][:100]
        raise ForeignOrigin(f"Pages of {origin!r} may not ask; CORS_ORIGINS names those that may.")
    return await handler(request)


def _is_foreign(request: web.Request) -> bool:
    """Whether a page asks that is not this gateway's; what is no browser names no origin."""
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if origin is None or site:  # which is right behind a proxy too; on plain HTTP there is none
        return origin is not None and site not in ("same-origin", "none")
    return origin.partition("://")[2] != request.headers.get("Host")


def _is_allowed(request: web.Request) -> bool:
    origins, origin = request.app[SETTINGS].cors_origins, request.headers.get("Origin")
    return origin is not None and (ANY in origins or origin in origins)
