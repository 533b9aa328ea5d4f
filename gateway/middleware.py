"""The middlewares: a line in the log for each request, keys, and errors as JSON."""

from __future__ import annotations

import logging
import time
from secrets import token_hex

from aiohttp import web
from aiohttp.typedefs import Handler
from opentelemetry.trace import SpanKind, StatusCode

from gateway import logs
from gateway.progress import FAULT, name_of, public, visible
from gateway.services import CALLER, ERROR, REQUEST_ID, SERVICES
from protocol import tracing
from protocol.errors import BodyTooLarge, Internal, MethodNotAllowed, NotFound, ServiceError

log = logging.getLogger(__name__)

PROBES = ("/healthz", "/readyz")  # a monitor asks for them every second
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self), payment=(), usb=()",
    "Server": "gateway",  # without the versions of its software
}


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """An `on_response_prepare` signal."""
    response.headers.update(SECURITY_HEADERS)
    response.headers["X-Request-Id"] = request[REQUEST_ID]


@web.middleware
async def trace(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A span for each request but those of monitors."""
    route = _route(request)
    if route in (*PROBES, "/metrics"):
        return await handler(request)
    caller, name = tracing.parent(request.headers), f"{request.method} {route}"
    with tracing.tracer.start_as_current_span(name, caller, SpanKind.SERVER) as span:
        response = await handler(request)
        span.set_attribute("http.response.status_code", response.status)
        span.set_attribute("request_id", request[REQUEST_ID])
        if error := request.get(ERROR):
            span.set_status(StatusCode.ERROR, error.code)
        return response


@web.middleware
async def log_access(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log one line for each request, also if its client closed the connection."""
    request[REQUEST_ID] = name_of(request.headers.get("X-Request-Id")) or token_hex(8)
    logs.request_id.set(request[REQUEST_ID])
    start = time.monotonic()
    outcome = "gone"
    try:
        response = await handler(request)
        broken_off = ERROR in request and response.status < 400
        outcome = "broken_off" if broken_off else str(response.status)
        return response
    finally:
        milliseconds = 1000 * (time.monotonic() - start)
        metrics = request.app[SERVICES].metrics
        metrics.requests.labels(request.method, _route(request), outcome).inc()
        target, error = request.rel_url.raw_path, request.get(ERROR)
        level = logging.DEBUG if target in PROBES else logging.INFO
        fields = {
            "method": request.method,
            "target": target,
            "status": outcome,
            "milliseconds": round(milliseconds),
            "key": request.get(CALLER) or "-",
        }
        text = "%s %s %s %d ms %s"
        if error:
            fields["code"], text = error.code, f"{text} %s"
        if error and error.field:
            fields["field"], text = error.field, f"{text} %r"  # a client may have made it up
        log.log(level, text, *fields.values(), extra=fields)


def _route(request: web.Request) -> str:
    """The pattern of its path, `none` where the service has no such path."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else "none"


@web.middleware
async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Demand a key, where the service has keys, for every path that exists and is not public."""
    resource, services = request.match_info.route.resource, request.app[SERVICES]
    if resource and resource.canonical not in services.public_paths:
        request[CALLER] = services.access.caller(request.headers.get("Authorization"))
    return await handler(request)


@web.middleware
async def errors_to_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The one place where errors become HTTP, aiohttp's own included."""
    try:
        return await handler(request)
    except ServiceError as caught:
        error = caught
    except web.HTTPException as caught:
        if caught.status < 400:  # a redirect
            return web.Response(status=caught.status, headers=caught.headers)
        error = _translation(request, caught)
    except Exception as caught:
        log.exception("%s %s failed", request.method, request.rel_url.raw_path)
        error = visible(caught)
    request[ERROR] = error.with_traceback(None)
    return error_response(error)


def error_response(error: ServiceError) -> web.Response:
    headers = {**SECURITY_HEADERS, **error.headers}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return web.json_response({"error": public(error)}, status=error.status or 500, headers=headers)


def _translation(request: web.Request, error: web.HTTPException) -> ServiceError:
    if isinstance(error, web.HTTPNotFound):
        return NotFound(f"There is nothing at {request.path[:100]!r}.")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{request.method} is not possible here; use {allowed}."
        return MethodNotAllowed(message, headers={"Allow": allowed})
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return BodyTooLarge(f"The body is over {request.client_max_size} bytes; send less.")
    log.error("aiohttp responded %d: %s", error.status, error.text)
    return Internal(FAULT)
