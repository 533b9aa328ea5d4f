"""Errors become JSON with the status and headers of their table."""

import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway.middleware import errors_to_json
from protocol.errors import MethodNotAllowed, QueueFull, ServiceError

KINDS = [kind for kind in ServiceError.codes.values() if kind.status is not None]


async def response_to(error: Exception) -> tuple[int, Any, Any]:
    """Status, JSON and headers."""

    async def fail(_: web.Request) -> web.StreamResponse:
        raise error

    response = await errors_to_json(make_mocked_request("GET", "/"), fail)
    assert isinstance(response, web.Response) and response.text
    return response.status, json.loads(response.text), response.headers


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_becomes_json_with_its_status(kind: type[ServiceError]) -> None:
    message, limits = "seed is -2; give -1 to 9.", {"minimum": -1, "maximum": 9}
    status, body, headers = await response_to(kind(message, "seed", limits=limits))
    assert status == kind.status
    reason = {"code": kind.code, "message": message, "field": "seed", "limits": limits}
    assert body == {"error": reason}
    assert ("Retry-After" in headers) == (kind.status in (429, 503))


async def test_an_error_sets_its_headers() -> None:
    _, _, headers = await response_to(QueueFull("full", retry_after=36))
    assert headers["Retry-After"] == "36"
    _, _, headers = await response_to(MethodNotAllowed("no", headers={"Allow": "POST"}))
    assert headers["Allow"] == "POST"


async def test_an_unknown_exception_is_internal_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    status, body, _ = await response_to(RuntimeError("a bug"))
    assert (status, body["error"]["code"]) == (500, "internal")
    assert "a bug" in caplog.text and "bug" not in body["error"]["message"]
