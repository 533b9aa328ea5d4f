"""What stub and engine log names the request that it is about: lines for people, or JSON."""

from __future__ import annotations

import logging
import re

from pythonjsonlogger.json import JsonFormatter

NOBODY = {"request_id": "-"}  # what is about no request
FIELDS = ["asctime", "levelname", "name", "message"]
NAMES = {"asctime": "time", "levelname": "level", "name": "logger"}
STRANGE = re.compile(r"[^\w.-]", re.ASCII)  # such as the end of a line
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
    """For a log call's `extra`. Triton takes any text for an id, empty where there is none."""
    return {"request_id": STRANGE.sub("?", request_id[:64])} if request_id else NOBODY
