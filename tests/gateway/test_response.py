"""Responses whose content comes while they are sent."""

import asyncio
import logging
from contextlib import suppress

import pytest
from aiohttp import ClientConnectionResetError, web
from aiohttp.test_utils import make_mocked_request

from gateway.response import complete_or_aborted


@pytest.mark.parametrize(
    ("error", "logged"),
    [(ClientConnectionResetError("Cannot write"), False), (RuntimeError("a bug"), True)],
)
async def test_a_client_that_leaves_is_no_error(
    caplog: pytest.LogCaptureFixture, error: Exception, logged: bool
) -> None:
    request, response = make_mocked_request("POST", "/generate"), web.StreamResponse()
    await response.prepare(request)

    def fail() -> None:
        raise error

    with suppress(asyncio.CancelledError), complete_or_aborted(request, response):
        fail()
    assert bool([line for line in caplog.records if line.levelno == logging.ERROR]) == logged
