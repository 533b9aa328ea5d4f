"""The process that every engine is forked from: `python -m musicgen_engine.core.fork_server`.

    python -m musicgen_engine.core.fork_server LISTENER OWNER

It imports once what an engine needs, and then forks an engine for each request: an engine starts
without the seconds that the imports take, and engines share the memory of the imported modules.
Each Triton has one, which ends with the process OWNER. LISTENER is the file descriptor of the
socket for requests.

A request is one message: the engine's arguments as JSON, with the engine's end of its channel. The
reply is the exit code, when the engine has ended. A requester that closes its connection ends its
engine. No engine outlives the fork server.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from musicgen_engine.core.parent import end_with_parent
from musicgen_engine.peer import peer

MAX_REQUEST = 65_536  # bytes
REQUEST_TIMEOUT = 1.0  # seconds


@dataclass(eq=False)
class _Engine:
    pid: int
    process: int  # file descriptor, readable once the process has ended
    connection: socket.socket
    stub: int | None  # the process id of its stub, if that is a child of the owner
    killed: bool = False

    def kill(self) -> None:
        """Do not wait: an engine on a broken device may not end."""
        self.killed = True
        signal.pidfd_send_signal(self.process, signal.SIGKILL)


class ForkLoop:
    """A forked process calls `engine` with its arguments and its end of the channel."""

    def __init__(
        self, listener: socket.socket, owner: int, engine: Callable[[list[str], int], None]
    ) -> None:
        self._listener = listener
        self._engine = engine
        self._owner_pid = owner
        self._owner = os.pidfd_open(owner)
        self._engines: list[_Engine] = []

    def run(self) -> None:
        """Return when the owner has ended."""
        while True:
            connections = {
                engine.connection.fileno(): engine for engine in self._engines if not engine.killed
            }
            processes = {engine.process: engine for engine in self._engines}
            waiting = [self._listener.fileno(), self._owner, *connections, *processes]
            ready, _, _ = select.select(waiting, [], [])
            for file in ready:
                if file == self._owner:
                    return self._kill_stubs()
                if file == self._listener.fileno():
                    self._accept()
                elif file in processes:
                    self._reap(processes[file])
                elif connections[file] in self._engines:  # its requester has closed the connection
                    connections[file].kill()

    def _accept(self) -> None:
        """Fork an engine for a requester. A failure is that requester's alone."""
        connection, _ = self._listener.accept()
        connection.settimeout(REQUEST_TIMEOUT)
        files: list[int] = []
        try:
            requester, user = peer(connection)
            if user != os.getuid():  # any user can connect to an abstract address
                raise PermissionError(f"user {user} may not have an engine")
            request, files, _, _ = socket.recv_fds(connection, MAX_REQUEST, 1)
            if files:
                self._fork(connection, requester, request, files[0])
            else:  # it has started this server, or it has ended
                connection.close()
        except OSError as error:
            print(f"fork server: no engine: {error}", file=sys.stderr, flush=True)
            connection.close()
        finally:
            for file in files:
                os.close(file)

    def _fork(
        self, connection: socket.socket, requester: int, request: bytes, channel: int
    ) -> None:
        server = os.getpid()
        if pid := os.fork():
            try:
                process = os.pidfd_open(pid)
            except OSError:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise
            stub = requester if _parent(requester) == self._owner_pid else None
            self._engines.append(_Engine(pid, process, connection, stub))
            return
        code = 1
        try:
            end_with_parent(server)
            connection.close()
            self._close()
            gc.enable()
            self._engine(json.loads(request), channel)
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(code)  # no other code of the fork server may run here

    def _kill_stubs(self) -> None:
        """Kill the stubs of a dead Triton: one that sends to it waits for ever."""
        for engine in self._engines:
            if engine.stub:
                with suppress(ProcessLookupError):
                    os.kill(engine.stub, signal.SIGKILL)

    def _close(self) -> None:
        """Close the fork server's own files, in an engine."""
        self._listener.close()
        os.close(self._owner)
        for engine in self._engines:
            os.close(engine.process)
            engine.connection.close()

    def _reap(self, engine: _Engine) -> None:
        """Report the exit code of an engine that has ended."""
        _, status = os.waitpid(engine.pid, 0)
        self._engines.remove(engine)
        os.close(engine.process)
        with suppress(OSError):  # the requester has ended
            engine.connection.send(str(os.waitstatus_to_exitcode(status)).encode())
        engine.connection.close()


def _parent(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()  # with a name that is cut at 15 bytes
    except OSError:  # it has ended
        return None
    return int(stat.rpartition(b")")[2].split()[1])


def main() -> None:
    listener, owner = map(int, sys.argv[1:])
    gc.disable()  # imports leave nearly no garbage
    from musicgen_engine.core.__main__ import main as engine

    gc.freeze()  # no collection then writes to the memory that engines share
    ForkLoop(socket.socket(fileno=listener), owner, engine).run()


if __name__ == "__main__":
    main()
