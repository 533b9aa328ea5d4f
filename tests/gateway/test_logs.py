"""Log lines have the id of their request, as text and as JSON."""

import json
import logging
from contextvars import copy_context

from aiohttp.http_exceptions import BadHttpMessage

from gateway import logs


def line(format: str, request_id: str | None = None) -> str:
    handler = logs.handler(format)
    record = logging.makeLogRecord(
        {"name": "gateway.x", "levelname": "INFO", "msg": "%s ended", "args": ("it",), "key": "ann"}
    )

    def log() -> str:
        if request_id:
            logs.request_id.set(request_id)
        handler.filter(record)
        return handler.format(record)

    return copy_context().run(log)


def test_a_line_of_text_has_the_id_before_the_message() -> None:
    assert line("text", "mine").endswith(" INFO gateway.x mine: it ended")
    assert line("text").endswith(" INFO gateway.x -: it ended")


def test_bad_http_is_not_logged_as_our_error() -> None:
    handler = logs.handler("text")
    for error, logged in ((BadHttpMessage("what?"), False), (ValueError("a bug"), True)):
        record = logging.makeLogRecord({"exc_info": (type(error), error, None)})
        assert bool(handler.filter(record)) == logged


def test_a_line_of_json_has_fields() -> None:
    mine = json.loads(line("json", "mine"))
    assert mine.pop("time")
    expected = {"level": "INFO", "logger": "gateway.x", "message": "it ended", "key": "ann"}
    assert mine == {**expected, "request_id": "mine"}
    assert json.loads(line("json"))["request_id"] == "-"
