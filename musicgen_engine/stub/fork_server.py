"""The fork server as stubs see it; all stubs of one Triton share it."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from musicgen_engine.peer import peer

COMMAND = (sys.executable, "-m", "musicgen_engine.core.fork_server")
ATTEMPTS, PAUSE = 100, 0.02  # seconds; while another stub starts it


class ForkedProcess:
    """An engine of the fork server, with the methods of a Popen."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._ended = False
        self._exit_code: int | None = None

    def kill(self) -> None:
        with suppress(OSError):  # it has ended
            self._connection.shutdown(socket.SHUT_WR)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the exit code: -n is the end by signal n, None an engine that ended with the
        fork server, or that could not be forked. Raises TimeoutError."""
        if not self._ended:
            self._connection.settimeout(timeout)
            try:
                code = self._connection.recv(16)
            except ConnectionError:
                code = b""
            self._connection.close()
            self._exit_code, self._ended = int(code) if code else None, True
        return self._exit_code


class ForkServer:
    """It belongs to the process `owner`, Triton, and ends with it."""

    def __init__(self, command: Sequence[str] = COMMAND, owner: int | None = None) -> None:
        self._command = command
        self._owner = owner or os.getppid()
        # Abstract, without a file. Containers may share that namespace, but not that of processes.
        self._address = f"\0audiocraft-engines-{Path('/proc/self/ns/pid').readlink()}-{self._owner}"

    def start(self) -> None:
        """Start the fork server unless it runs. This does not wait for its imports."""
        self._connect().close()

    def fork(self, arguments: Sequence[str], channel: int) -> ForkedProcess:
        """Fork an engine, which gets the file descriptor `channel`. This does not wait for it.

        Raises:
            OSError: the fork server does not run and cannot be started.
        """
        connection = self._connect()
        socket.send_fds(connection, [json.dumps(arguments).encode()], [channel])
        return ForkedProcess(connection)

    def _connect(self) -> socket.socket:
        for _ in range(ATTEMPTS):
            connection = _socket()
            try:
                connection.connect(self._address)
            except ConnectionRefusedError:
                connection.close()
                self._launch()
            else:
                if peer(connection)[1] == os.getuid():
                    return connection
                connection.close()
                raise PermissionError(errno.EPERM, "another user has the fork server's address")
        raise OSError(errno.ECONNREFUSED, "the fork server does not start")

    def _launch(self) -> None:
        with _socket() as listener:
            try:
                listener.bind(self._address)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                return time.sleep(PAUSE)  # another stub is about to listen
            listener.listen()
            arguments = [str(listener.fileno()), str(self._owner)]
            process = subprocess.Popen([*self._command, *arguments], pass_fds=[listener.fileno()])
        threading.Thread(target=process.wait, daemon=True).start()  # leaves no zombie


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
