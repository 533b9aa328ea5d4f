"""The HTTP API, described for machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gateway import __version__
from gateway.song import DEFAULT_DURATION

FILE = Path(__file__).with_name("openapi.yaml")


def describe(max_duration: float) -> dict[str, Any]:
    """openapi.yaml, of this version and for a service whose songs last up to so many seconds."""
    document: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
    document["info"]["version"] = __version__
    for schema in ("Song", "Continuation"):
        duration = document["components"]["schemas"][schema]["properties"]["duration"]
        duration["maximum"] = max_duration
        duration["default"] = min(DEFAULT_DURATION, max_duration)
    return document
