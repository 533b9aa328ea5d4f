"""The connections of clients: how many there are, how much each may send, and HTTP's own errors."""

from __future__ import annotations

import asyncio
import resource
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from gateway.middleware import error_response
from gateway.progress import FAULT
from protocol.errors import ExpectationFailed, Internal, InvalidHttp, ServiceError

MAX_CONNECTIONS = 1_000
MAX_ADDRESS = 8 * 1024  # bytes
MAX_HEAD = 64 * 1024  # bytes: a browser sends the cookies of all pages of this host
BUFFER = 64 * 1024  # bytes of a body that wait for the handler
IDLE_TIMEOUT = 300.0  # seconds between two requests; proxies close unused connections earlier
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
PROBES, PROBE_INTERVAL = 2, 0.2  # seconds


class Connection(web.RequestHandler):
    """`heard` is the time of the client's last byte."""

    def __init__(self, server: Connections, **options: Any) -> None:
        super().__init__(server, **options)
        self.heard = self._loop.time()
        self.handled = 0  # requests
        self._body: StreamReader = EMPTY_PAYLOAD  # of the last request
        self._unread = 0  # bytes of requests that have no handler yet

    @property
    def waits_for_client(self) -> bool:
        """Whether a request has to come, or the rest of its body."""
        return self.handled == self._request_count or not self._body.is_eof()

    def data_received(self, data: bytes) -> None:
        self.heard = self._loop.time()
        queued, in_body = len(self._messages), not self._body.is_eof()
        super().data_received(data)
        if self._messages:
            if not self._body.is_eof():  # the parser gave it up, and tells its reader nothing
                self._body.set_exception(web.RequestPayloadError("a chunk is wrong"))
            self._body = self._messages[-1][1]
        has_handler = not queued and (in_body or self._messages)
        self._unread = 0 if has_handler else self._unread + len(data)
        if self._unread > MAX_HEAD and self.transport:
            self.transport.abort()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio allows a bool
        """Close the connection, but not if the client waits for a response.

        A client that has closed its half of the connection may wait, or it has left. Only something
        sent tells: a client that has left resets the connection then. So a client whose response
        has not begun is sent `100 Continue`, which all clients ignore.
        """
        if self.waits_for_client:
            return False
        self.close()  # after the response
        self._loop.call_later(PROBE_INTERVAL, self._probe, PROBES)
        return True

    def _probe(self, times: int) -> None:
        request = self._current_request
        if times and self.transport and request and not request.writer.output_size:
            if request.version >= HttpVersion11:
                self.transport.write(CONTINUE)
            self._loop.call_later(PROBE_INTERVAL, self._probe, times - 1)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The response to something else than HTTP, or to an error outside of the application."""
        if request.writer.output_size > 0:
            raise ConnectionError("a part of another response was sent")
        if status == 400:
            address, headers = f"{MAX_ADDRESS // 1024} KB", f"{MAX_HEAD // 1024} KB"
            error: ServiceError = InvalidHttp(
                f"This is not HTTP/1.1, its address is over {address}, or its headers are over "
                f"{headers}."
            )
        else:
            self.log_exception("a request failed", exc_info=exc)
            error = Internal(FAULT)
        response = error_response(error)
        response.force_close()
        return response


class Connections(web.Server):
    """At most MAX_CONNECTIONS. When one more comes, the client that has been silent for longest
    gives way, of those that have not sent a whole request: it may be the newcomer itself."""

    def __init__(self, server: web.Server) -> None:
        """The connections of an application, which has made `server`."""
        super().__init__(
            self._handle,
            request_factory=server.request_factory,
            handler_cancellation=True,
            max_line_size=MAX_ADDRESS,
            max_field_size=MAX_HEAD,
            read_bufsize=BUFFER,
            keepalive_timeout=IDLE_TIMEOUT,
            access_log=None,
        )
        self._application = server.request_handler
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._limit = min(MAX_CONNECTIONS, files // 2)
        self._open: dict[Connection, asyncio.Transport] = {}

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        assert isinstance(handler, Connection)
        self._open[handler] = transport
        if len(self._open) > self._limit:
            silent = (connection for connection in self._open if connection.waits_for_client)
            self._open.pop(min(silent, key=lambda connection: connection.heard)).abort()

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        super().connection_lost(handler, exc)
        assert isinstance(handler, Connection)
        self._open.pop(handler, None)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request.protocol, Connection)
        try:
            expect = request.headers.get("Expect", "100-continue")
            if expect.lower() != "100-continue":
                problem = f"Expect is {expect[:50]!r}; send 100-continue, or nothing."
                return error_response(ExpectationFailed(problem))
            return await self._application(request)
        finally:
            request.protocol.handled += 1


class Runner(web.AppRunner):
    """Runs an application on such connections."""

    async def _make_server(self) -> web.Server:
        return Connections(await super()._make_server())
