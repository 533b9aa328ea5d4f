"""No line of a log is longer than a few thousand characters."""

import json
import logging
import sys

import pytest

from gateway import logs
from protocol.logs import END


@pytest.mark.parametrize("format", ["text", "json"])
def test_long_values_and_tracebacks_keep_their_ends(format: str) -> None:
    handler = logs.handler(format)
    value = "start" + "x" * 10**6 + "end"
    try:
        raise ValueError(value)
    except ValueError:
        record = logging.makeLogRecord({"msg": "%s", "args": (value,), "exc_info": sys.exc_info()})
    assert handler.filter(record)
    line = handler.format(record)
    assert len(line) < 5 * END
    assert line.count("xend") == 2 and "Traceback" in line and "startx" in line
    if format == "json":
        assert json.loads(line)["message"].startswith("startx")


def test_a_short_line_and_its_traceback_stay_as_they_are() -> None:
    handler = logs.handler("text")
    try:
        raise ValueError("short")
    except ValueError:
        record = logging.makeLogRecord({"msg": "a %d", "args": (5,), "exc_info": sys.exc_info()})
    assert handler.filter(record)
    line = handler.format(record)
    assert ": a 5\nTraceback" in line and line.endswith("ValueError: short")
