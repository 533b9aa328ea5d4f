"""One program that is kept running: started again when it dies, with growing pauses."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds before the next start, one death after another
STEADY = 60.0  # seconds of life after which a death counts as the first again
GROUP_GONE = 2.0  # seconds given to killed processes to vanish
TETHER = Path(__file__).with_name("tether.py")


class Process:
    """`clean` is called whenever no process of the program is left.

    The program leads a session of its own, so Ctrl-C at the terminal does not reach it, and is
    killed by the kernel when the supervisor dies. What it starts is its process group: nothing of
    it outlives the program.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        say: Callable[[str], None],
        clean: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.starts = 0
        self._command = command
        self._environment = environment
        self._say = say
        self._clean = clean
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def keep_running(self) -> None:
        """Returns after `stop` or `kill`, when no process of the program is left."""
        deaths = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                ending = _ending(await self._run())
            except OSError as error:
                ending = f"could not be started ({error.strerror})"
            lasted = time.monotonic() - started
            if self._stopping.is_set():
                return
            deaths = 1 if lasted > STEADY else deaths + 1
            pause = PAUSES[min(deaths, len(PAUSES)) - 1]
            self._say(
                f"{self.name} {ending} after {lasted:.0f} s; starting it again in {pause:g} s"
            )
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def stop(self, grace: float) -> None:
        """Asks the program to end, and kills it after `grace` seconds; no other start follows."""
        self._stopping.set()
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), grace)
        except asyncio.TimeoutError:
            self._say(f"{self.name} does not stop; killing it")
            self.kill()

    def kill(self) -> None:
        """Kills the program and all it started, at once; no other start follows."""
        self._stopping.set()
        if self._process is not None:
            _kill_group(self._process.pid)

    async def _run(self) -> int:
        """Runs the program once, to its end; returns its exit code (-n: died of signal n)."""
        self._say(f"starting {self.name}")
        self.starts += 1
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", str(TETHER), str(os.getpid()), *self._command),
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        if self._stopping.is_set():  # meanwhile
            self.kill()
        try:
            return await self._process.wait()
        finally:
            await _end_group(self._process.pid)
            self._process = None
            self._clean()


def _kill_group(leader: int) -> bool:
    """Whether there was any process in the group."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


async def _end_group(leader: int) -> None:
    deadline = time.monotonic() + GROUP_GONE
    while _kill_group(leader) and time.monotonic() < deadline:
        _bury(leader)
        await asyncio.sleep(0.02)


def _bury(group: int) -> None:
    """Collects a dead orphan that came to us: until then it counts as one of the group."""
    with suppress(ChildProcessError):
        os.waitpid(-group, os.WNOHANG)


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"
