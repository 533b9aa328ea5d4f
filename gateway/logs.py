"""Each line names the request that it is about: lines for people, or JSON for machines."""

from __future__ import annotations

import logging
from contextvars import ContextVar

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError
from pythonjsonlogger.json import JsonFormatter

FORMATS = ("text", "json")
FIELDS = ["asctime", "levelname", "name", "request_id", "message"]
NAMES = {"asctime": "time", "levelname": "level", "name": "logger"}
TIME = "%Y-%m-%dT%H:%M:%S%z"

# Whose work is done; tasks inherit it.
request_id: ContextVar[str] = ContextVar("request_id", default="-")


def _no_noise(record: logging.LogRecord) -> bool:
    """aiohttp tells of what is no HTTP as of its own errors."""
    noise = (HttpProcessingError, RequestPayloadError)
    return not (record.exc_info and isinstance(record.exc_info[1], noise))


def handler(format: str) -> logging.Handler:
    """To stderr; `format` is one of FORMATS."""
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(request_id)s: %(message)s")
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter(FIELDS, TIME, rename_fields=NAMES) if format == "json" else text
    )
    handler.addFilter(_named)
    handler.addFilter(_no_noise)
    return handler


def _named(record: logging.LogRecord) -> bool:
    record.request_id = request_id.get()
    return True
