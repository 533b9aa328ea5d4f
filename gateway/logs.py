"""Log lines with the id of their request, as text or JSON."""

from __future__ import annotations

import logging
from contextvars import ContextVar

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError
from pythonjsonlogger.json import JsonFormatter

from protocol.logs import bounded

FIELDS = ["asctime", "levelname", "name", "request_id", "message"]
NAMES = {"asctime": "time", "levelname": "level", "name": "logger"}
TIME = "%Y-%m-%dT%H:%M:%S%z"

# The id of the current request; tasks inherit it.
request_id: ContextVar[str] = ContextVar("request_id", default="-")


def handler(format: str) -> logging.Handler:
    """A handler that writes to stderr; `format` is one of LOG_FORMATS."""
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(request_id)s: %(message)s")
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter(FIELDS, TIME, rename_fields=NAMES) if format == "json" else text
    )
    handler.addFilter(_add_request_id)
    handler.addFilter(_is_ours)
    handler.addFilter(bounded)
    return handler


def _add_request_id(record: logging.LogRecord) -> bool:
    record.request_id = request_id.get()
    return True


def _is_ours(record: logging.LogRecord) -> bool:
    """False where a client sent something else than HTTP: aiohttp logs its own exception then."""
    foreign = (HttpProcessingError, RequestPayloadError)
    return not (record.exc_info and isinstance(record.exc_info[1], foreign))
