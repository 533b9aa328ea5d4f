"""A program that is kept running: it is restarted when it dies, after growing delays."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

RESTART_DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds, after one death in a row, two, ...
STEADY = 60.0  # seconds of life after which a death is the first in a row again
GROUP_TIMEOUT = 2.0  # seconds for killed processes to vanish
REAP_INTERVAL = 0.5  # seconds
TETHER = Path(__file__).with_name("tether.py")
PR_SET_CHILD_SUBREAPER = 36


class Process:
    """A program with its descendants, which form one process group and do not outlive it.

    The program leads a session of its own, so that Ctrl-C at the terminal does not reach it. The
    kernel kills it when the supervisor dies. `on_exit` runs when no process of the group is left.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Callable[[str], None],
        on_exit: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.starts = 0
        self._command = command
        self._environment = environment
        self._log = log
        self._on_exit = on_exit
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

    async def stop(self, grace: float) -> None:
        """Sends SIGTERM, and kills the group after `grace` seconds; prevents a restart."""
        self._stopping.set()
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), grace)
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
        self._log(f"starting {self.name}")
        self.starts += 1
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", str(TETHER), str(os.getpid()), *self._command),
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        if self._stopping.is_set():  # since the start began
            self.kill()
        try:
            return await self._process.wait()
        finally:
            await _end_group(self._process.pid)
            self._process = None
            self._on_exit()


def adopt_orphans() -> None:
    """Makes orphaned descendants children of this process, not of the system's first one."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


async def reap_orphans(processes: Sequence[Process]) -> None:
    """Reaps dead orphans for ever, but not `processes`, which asyncio waits for."""
    while True:
        if not _reap_one([process.pid for process in processes]):
            await asyncio.sleep(REAP_INTERVAL)


def _reap_one(excluded: Sequence[int | None]) -> bool:
    with suppress(ChildProcessError):  # there is no child at all
        dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if dead and dead.si_pid not in excluded:
            os.waitpid(dead.si_pid, 0)
            return True
    return False


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
