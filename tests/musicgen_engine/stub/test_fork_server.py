"""Engines are forked, watched and ended; the fork server comes and goes with its owner.

The fork server is a real one: this file itself, run as a script. Its engines do what their first
argument says.
"""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from musicgen_engine.core import fork_server
from musicgen_engine.stub.fork_server import ForkedProcess, ForkServer
from tests.conftest import TIMEOUT, until


def engine(arguments: list[str], channel: int) -> None:
    connection = Connection(channel)
    files = [str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.exists()]
    sockets = [file for file in files if file.startswith("socket")]
    connection.send((os.getpid(), os.getppid(), len(sockets)))
    if arguments == ["crash"]:
        sys.exit(3)
    if arguments == ["raise"]:
        raise RuntimeError("on purpose")
    if arguments == ["wait"]:
        while True:
            time.sleep(60)  # deaf to the end of its channel


class Owner:
    """In the place of Triton."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["sleep", "600"])
        self.server = ForkServer([sys.executable, __file__], self.process.pid)
        self.engines: list[ForkedProcess] = []

    def fork(self, what: str = "end") -> tuple[ForkedProcess, tuple[int, int, int]]:
        """The engine; its process id, that of the fork server, and how many sockets it holds."""
        ours, theirs = Pipe()
        with theirs:
            process = self.server.fork([what], theirs.fileno())
        self.engines.append(process)
        with ours:
            assert ours.poll(TIMEOUT)
            return process, ours.recv()

    def end(self) -> None:
        """The fork server and all engines end with it."""
        self.process.kill()
        self.process.wait()
        for engine in self.engines:
            with suppress(OSError):  # it was waited for already
                engine.wait()


@pytest.fixture
def owner(monkeypatch: pytest.MonkeyPatch) -> Iterator[Owner]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    owner = Owner()
    yield owner
    owner.end()


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize(("what", "code"), [("end", 0), ("crash", 3), ("raise", 1)])
def test_the_exit_code_arrives(owner: Owner, what: str, code: int) -> None:
    process, _ = owner.fork(what)
    assert process.wait(TIMEOUT) == code
    assert process.wait() == code  # however often it is asked for


def test_a_killed_engine_is_noticed(owner: Owner) -> None:
    process, (pid, _, _) = owner.fork("wait")
    with pytest.raises(TimeoutError):
        process.wait(0.1)
    os.kill(pid, signal.SIGSEGV)
    assert process.wait(TIMEOUT) == -signal.SIGSEGV


def test_a_stub_kills_its_engine(owner: Owner) -> None:
    process, (pid, _, _) = owner.fork("wait")
    process.kill()
    assert process.wait(TIMEOUT) == -signal.SIGKILL
    assert ended(pid)


def test_an_engine_ends_with_its_stub(owner: Owner) -> None:
    process, (pid, _, _) = owner.fork("wait")
    process._connection.close()  # as the kernel does when the stub dies
    until(lambda: ended(pid))


def test_one_fork_server_serves_all_stubs(owner: Owner) -> None:
    one, (_, server, _) = owner.fork("wait")
    two, (_, other, _) = owner.fork("wait")
    assert server == other
    one.kill()
    assert one.wait(TIMEOUT) == -signal.SIGKILL
    with pytest.raises(TimeoutError):
        two.wait(0.1)


def test_an_engine_holds_no_socket_but_its_channel(owner: Owner) -> None:
    owner.fork("wait")
    _, (_, _, sockets) = owner.fork("wait")
    assert sockets == 1


def test_a_killed_fork_server_takes_its_engines_along(owner: Owner) -> None:
    process, (pid, server, _) = owner.fork("wait")
    os.kill(server, signal.SIGKILL)
    assert process.wait(TIMEOUT) is None
    until(lambda: ended(pid))
    _, (_, new, _) = owner.fork()
    assert new != server


def test_an_engine_that_ends_with_its_stub_leaves_the_others(owner: Owner) -> None:
    """Both are seen in one look of the fork server, which sleeps meanwhile."""
    process, (pid, server, _) = owner.fork("wait")
    other, _ = owner.fork("wait")
    os.kill(server, signal.SIGSTOP)
    os.kill(pid, signal.SIGABRT)
    process.kill()
    until(lambda: ended(pid))
    os.kill(server, signal.SIGCONT)
    assert process.wait(TIMEOUT) == -signal.SIGABRT
    with pytest.raises(TimeoutError):
        other.wait(0.1)


def test_the_fork_server_ends_with_its_owner(owner: Owner) -> None:
    _process, (pid, server, _) = owner.fork("wait")
    owner.end()
    until(lambda: ended(server) and ended(pid))


def test_a_silent_requester_delays_the_others_only_shortly(owner: Owner) -> None:
    process, _ = owner.fork("wait")
    with owner.server._connect():  # it never sends a request
        process.kill()
        assert process.wait(TIMEOUT) == -signal.SIGKILL
        owner.fork("wait")


def test_the_name_of_a_requester_may_end_within_a_letter(owner: Owner) -> None:
    """The kernel cuts it at 15 bytes."""
    own = Path("/proc/self/comm")
    name = own.read_bytes()
    own.write_bytes("é".encode() * 8)
    try:
        process, _ = owner.fork("wait")
    finally:
        own.write_bytes(name)
    with pytest.raises(TimeoutError):
        process.wait(0.1)


@pytest.mark.parametrize("free", [1, 2])  # an engine takes three
def test_a_failed_fork_ends_no_other_engine(owner: Owner, free: int) -> None:
    process, (_, server, _) = owner.fork("wait")
    folder = Path(f"/proc/{server}/fd")

    def sockets() -> int:
        try:
            return sum(str(file.readlink()).startswith("socket") for file in folder.iterdir())
        except FileNotFoundError:  # it closes a file meanwhile
            return 0

    # The listener and one connection: it has closed its copy of the engine's channel.
    until(lambda: sockets() == 2)
    files = {int(file.name) for file in folder.iterdir()}
    limit = next(n for n in range(256) if n - sum(file < n for file in files) == free)
    resource.prlimit(server, resource.RLIMIT_NOFILE, (limit, 256))
    with suppress(EOFError, ConnectionError):  # it may be killed after its first message
        owner.fork("wait")
    assert owner.engines[-1].wait(TIMEOUT) is None
    with pytest.raises(TimeoutError):
        process.wait(0.1)
    resource.prlimit(server, resource.RLIMIT_NOFILE, (256, 256))
    owner.fork("wait")


def test_a_fork_server_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    server = ForkServer([str(tmp_path / "nothing")], os.getpid())
    with pytest.raises(OSError, match="No such file"):
        server.start()


if __name__ == "__main__":
    listener, owner_pid = map(int, sys.argv[1:])
    fork_server.ForkLoop(socket.socket(fileno=listener), owner_pid, engine).run()
