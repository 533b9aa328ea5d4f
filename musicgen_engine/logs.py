"""What stub and engine log names the request that it is about: lines for people, or JSON."""

from __future__ import annotations

import logging

from pythonjsonlogger.json import JsonFormatter

NOBODY = {"request_id": "-"}  # what is about no request
FIELDS = ["asctime", "levelname", "name", "message"]
NAMES = {"asctime": "time", "levelname": "level", "name": "logger"}
TIME = "%Y-%m-%dT%H:%M:%S%z"


def configure(model: str, format: str) -> None:
    """For this process, which serves `model`; `format` is "text" or "json"."""
    text = logging.Formatter(f"{model} %(request_id)s: %(message)s", defaults=NOBODY)
    json = JsonFormatter(
        FIELDS, TIME, rename_fields=NAMES, static_fields={"model": model}, defaults=NOBODY
    )
    handler = logging.StreamHandler()
    handler.setFormatter(json if format == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def about(request_id: str) -> dict[str, str]:
    """For a log call's `extra`. Whoever named no request has an empty one."""
    return {"request_id": request_id} if request_id else NOBODY
