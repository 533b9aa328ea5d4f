"""A program that is kept running: it is restarted when it dies or hangs, after growing delays."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

RESTART_DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds, after one death in a row, two, ...
STEADY = 60.0  # seconds of life after which a death is the first in a row again
GRACE = 8.0  # seconds for a program to end
GROUP_TIMEOUT = 2.0  # seconds for killed processes to vanish
CHECK_INTERVAL = 2.0  # seconds between two looks for what hangs
START_TIMEOUT = 120.0  # seconds that a program may take to become live
TETHER = Path(__file__).with_name("tether.py")


async def _always() -> bool:
    return True


class Process:
    """A program with its descendants, which form one process group and do not outlive it.

    The program leads a session of its own, so that Ctrl-C at the terminal does not reach it. The
    kernel kills it when the supervisor dies.

    A program may take `grace` seconds to end when it is told to. One that is not live for so long
    hangs, perhaps because another program told it to end, and is killed with its group. A process
    of the group that a signal has stopped is killed alone: the others wait for it.

    Args:
        is_live: whether the program answers; it gives up by itself after some seconds.
        on_start: runs before each start.
        on_exit: runs after each exit, when no process of the group is left.
        stderr: a file descriptor for what the program writes to stderr; None is our own.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Callable[[str], None],
        grace: float = GRACE,
        is_live: Callable[[], Awaitable[bool]] = _always,
        on_start: Callable[[], None] = lambda: None,
        on_exit: Callable[[], None] = lambda: None,
        stderr: int | None = None,
    ) -> None:
        self.name = name
        self.starts = 0
        self._command = command
        self._environment = environment
        self._log = log
        self._grace = grace
        self._is_live = is_live
        self._on_start = on_start
        self._on_exit = on_exit
        self._stderr = stderr
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def keep_running(self) -> None:
        """Returns after `stop` or `kill`, when no process of the group is left."""
        deaths = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                ending = _ending(await self._run())
            except OSError as error:
                ending = f"could not be started ({error.strerror})"
            lifetime = time.monotonic() - started
            if self._stopping.is_set():
                return
            deaths = 1 if lifetime > STEADY else deaths + 1
            delay = RESTART_DELAYS[min(deaths, len(RESTART_DELAYS)) - 1]
            self._log(
                f"{self.name} {ending} after {lifetime:.0f} s; starting it again in {delay:g} s"
            )
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)

    async def stop(self) -> None:
        """Sends SIGTERM, and kills the group after the grace; prevents a restart."""
        self._stopping.set()
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self._grace)
        except asyncio.TimeoutError:
            self._log(f"{self.name} does not stop; killing it")
            self.kill()

    def kill(self) -> None:
        """Kills the group at once; prevents a restart."""
        self._stopping.set()
        if self._process is not None:
            _kill_group(self._process.pid)

    async def _run(self) -> int:
        """Runs the program once; returns its exit code, or -n for signal n."""
        self._on_start()
        self._log(f"starting {self.name}")
        self.starts += 1
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", str(TETHER), str(os.getpid()), *self._command),
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=self._stderr,
            start_new_session=True,
        )
        if self._stopping.is_set():  # since the start began
            self.kill()
        ending = asyncio.create_task(self._process.wait())
        watching = asyncio.create_task(self._watch(self._process.pid))
        try:
            await asyncio.wait({ending, watching}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()  # raises its error
            return await ending
        finally:
            watching.cancel()
            await _end_group(self._process.pid)
            self._process = None
            self._on_exit()

    async def _watch(self, leader: int) -> None:
        """Kills what hangs; returns when that is the program."""
        patience, stopped = START_TIMEOUT, set[int]()
        while patience > 0:
            await asyncio.sleep(CHECK_INTERVAL)
            before, stopped = stopped, _stopped_processes(leader)
            for pid in before & stopped:
                self._log(f"a process of {self.name} is stopped (SIGSTOP); killing it")
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            asked = time.monotonic()
            is_live = await self._is_live()
            waited = CHECK_INTERVAL + time.monotonic() - asked
            patience = self._grace if is_live else patience - waited
        self._log(f"{self.name} does not answer; killing it")
        _kill_group(leader)


def _stopped_processes(group: int) -> set[int]:
    """The processes of the group that a signal has stopped."""
    stopped = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # the process has ended
            state, _parent, its_group, *_ = stat.read_bytes().rpartition(b")")[2].split()
            if state == b"T" and int(its_group) == group:
                stopped.add(int(stat.parent.name))
    return stopped


def _kill_group(leader: int) -> bool:
    """Whether the group had any process."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


async def _end_group(leader: int) -> None:
    deadline = time.monotonic() + GROUP_TIMEOUT
    while _kill_group(leader) and time.monotonic() < deadline:
        _reap_from(leader)
        await asyncio.sleep(0.02)


def _reap_from(group: int) -> None:
    """Reaps a dead orphan, which counts as a process of the group until then."""
    with suppress(ChildProcessError):
        os.waitpid(-group, os.WNOHANG)


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"
