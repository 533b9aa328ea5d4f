"""Log lines of stub and engine. Each names its request: text for people, or JSON."""

from __future__ import annotations

import logging
import re

from pythonjsonlogger.json import JsonFormatter

from protocol.logs import bounded

NO_REQUEST = {"request_id": "-"}
FIELDS = ["asctime", "levelname", "name", "message"]
NAMES = {"asctime": "time", "levelname": "level", "name": "logger"}
UNSAFE = re.compile(r"[^\w.-]", re.ASCII)  # such as a line break
TIME = "%Y-%m-%dT%H:%M:%S%z"


def configure(model: str, format: str) -> None:
    """Configure the log of this process, which serves `model`; `format` is "text" or "json"."""
    text = logging.Formatter(f"{model} %(request_id)s: %(message)s", defaults=NO_REQUEST)
    json = JsonFormatter(
        FIELDS, TIME, rename_fields=NAMES, static_fields={"model": model}, defaults=NO_REQUEST
    )
    handler = logging.StreamHandler()
    handler.addFilter(bounded)
    handler.setFormatter(json if format == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def about(request_id: str) -> dict[str, str]:
    """The `extra` of a log call. A request id is any text, empty where there is none."""
    return {"request_id": UNSAFE.sub("?", request_id[:64])} if request_id else NO_REQUEST
