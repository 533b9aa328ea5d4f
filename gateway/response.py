"""Responses whose content comes while they are sent: songs, and events of their progress."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import sys
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

from aiohttp import HttpVersion11, web

from gateway.progress import visible
from gateway.services import ERROR, SERVICES
from protocol.errors import ServiceError

log = logging.getLogger(__name__)


@contextmanager
def complete_or_aborted(request: web.Request, response: web.StreamResponse) -> Iterator[None]:
    """An error closes the connection of a response that has begun, so that no part of a file looks
    like a complete one. Before the beginning the error is raised, to become a response.

    A client that has gone cancels the handler.
    """
    try:
        yield
    except ConnectionError:
        _abort(request)
        raise asyncio.CancelledError from None
    except Exception as error:
        if not response.prepared:
            raise
        request[ERROR] = visible(error).with_traceback(None)
        bug = None if isinstance(error, ServiceError) else error
        log.error("the response broke off: %s", request[ERROR], exc_info=bug)
        _abort(request)


def _abort(request: web.Request) -> None:
    if request.transport:
        request.transport.abort()


async def send(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Send data. Raise ConnectionError when the client is gone, or does not read for too long."""
    await _in_time(request, response.write(data))


async def finish(request: web.Request, response: web.StreamResponse) -> None:
    """Send the end of the response. Raise as `send`."""
    await _in_time(request, response.write_eof())


async def _in_time(request: web.Request, sending: Awaitable[None]) -> None:
    try:
        async with timeout(request.app[SERVICES].settings.stall_timeout):
            await sending
    except asyncio.TimeoutError:
        raise ConnectionAbortedError("the client does not read") from None


def reset_on_close(request: web.Request, on: bool) -> None:
    """Whether closing the connection resets it, also when this process is killed.

    HTTP/1.0 has no chunks: there an orderly close is the end of the song.
    """
    if request.version < HttpVersion11 and request.transport:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", on, 0))
