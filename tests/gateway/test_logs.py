"""What the gateway logs names its request: to people, and to machines."""

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


def test_people_read_the_request_before_the_message() -> None:
    assert line("text", "mine").endswith(" INFO gateway.x mine: it ended")
    assert line("text").endswith(" INFO gateway.x -: it ended")


def test_what_is_no_http_is_not_told_as_an_error_of_ours() -> None:
    handler = logs.handler("text")
    for error, told in ((BadHttpMessage("what?"), False), (ValueError("a bug"), True)):
        record = logging.makeLogRecord({"exc_info": (type(error), error, None)})
        assert bool(handler.filter(record)) == told


def test_machines_read_fields() -> None:
    mine = json.loads(line("json", "mine"))
    assert mine.pop("time")
    expected = {"level": "INFO", "logger": "gateway.x", "message": "it ended", "key": "ann"}
    assert mine == {**expected, "request_id": "mine"}
    assert json.loads(line("json"))["request_id"] == "-"
