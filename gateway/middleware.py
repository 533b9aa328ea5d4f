"""What happens around every handler: errors become JSON, each request one line in the log."""

from __future__ import annotations

import logging
import time
from secrets import token_hex

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway import logs
from gateway.appkeys import ACCESS, BROKEN_OFF, CALLER, METRICS, PUBLIC, REQUEST_ID
from gateway.errors import BodyTooLarge, GatewayError, MethodNotAllowed, NotFound
from gateway.progress import name_of

log = logging.getLogger(__name__)

PROBES = ("/healthz", "/readyz")  # asked every second by whoever watches over the gateway
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Server": "gateway",  # and not which versions it runs on
}


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """An `on_response_prepare` signal."""
    response.headers.update(SECURITY_HEADERS)
    if request_id := request.get(REQUEST_ID):  # what is no HTTP has none
        response.headers["X-Request-Id"] = request_id


@web.middleware
async def log_access(request: web.Request, handler: Handler) -> web.StreamResponse:
    """One line for each request, also for those whose client went away."""
    given = name_of(request.headers.get("X-Request-Id"))
    request[REQUEST_ID] = given or token_hex(8)
    logs.request_id.set(request[REQUEST_ID])
    start = time.monotonic()
    outcome = "gone"
    try:
        response = await handler(request)
        if BROKEN_OFF not in request:
            outcome = str(response.status)
        return response
    finally:
        milliseconds = 1000 * (time.monotonic() - start)
        resource = request.match_info.route.resource
        route = resource.canonical if resource else "none"
        request.app[METRICS].requests.labels(request.method, route, outcome).inc()
        target, caller = request.rel_url.raw_path, request.get(CALLER)
        level = logging.DEBUG if target in PROBES else logging.INFO
        fields = {
            "method": request.method,
            "target": target,
            "status": outcome,
            "milliseconds": round(milliseconds),
            "key": caller or "-",
        }
        log.log(level, "%s %s %s %d ms %s", *fields.values(), extra=fields)


@web.middleware
async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What exists and is not public needs a key, where there are keys."""
    resource = request.match_info.route.resource
    if resource and resource.canonical not in request.app[PUBLIC]:
        authorization = request.headers.get("Authorization")
        request[CALLER] = request.app[ACCESS].caller(authorization)
    return await handler(request)


@web.middleware
async def errors_to_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The one place where errors become HTTP, aiohttp's own among them."""
    try:
        return await handler(request)
    except GatewayError as caught:
        error = caught
    except web.HTTPException as caught:
        if caught.status < 400:
            raise
        error = _translation(request, caught)
    except Exception:
        log.exception("%s %s failed", request.method, request.rel_url.raw_path)
        error = GatewayError("Something went wrong in the gateway; its log says what.")
    return web.json_response(error.body(), status=error.status, headers=error.headers())


def _translation(request: web.Request, error: web.HTTPException) -> GatewayError:
    if isinstance(error, web.HTTPNotFound):
        return NotFound(f"There is nothing at {request.path[:100]!r}.")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return MethodNotAllowed(f"{request.method} is not possible here; use {allowed}.", allowed)
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return BodyTooLarge(f"The body is over {request.client_max_size} bytes; send less.")
    log.error("aiohttp answered %d: %s", error.status, error.text)
    return GatewayError("Something went wrong in the gateway; its log says what.")
