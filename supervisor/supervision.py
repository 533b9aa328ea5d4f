"""Programs are kept running until a signal, and then stopped."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

from supervisor.process import Process

REAP_INTERVAL = 0.5  # seconds
PR_SET_CHILD_SUBREAPER = 36


def log(line: str) -> None:
    with suppress(OSError):  # the terminal is gone
        print(f"service: {line}", flush=True)


async def supervise(processes: Sequence[Process], *work: Coroutine[Any, Any, None]) -> None:
    """Keeps the programs running until a signal, and then stops them, the last one first: each may
    need those before it. A second signal kills all at once. Meanwhile does the `work`, which never
    ends; its failure is the end of all.
    """
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets SIGHUP
            asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans become our children
    running = asyncio.gather(*(process.keep_running() for process in processes))
    reaping = asyncio.create_task(_reap_orphans(processes))
    working = [asyncio.create_task(one) for one in work]
    ends: set[asyncio.Future[Any]] = {running, reaping, *working}
    ends.add(asyncio.create_task(signals.get()))
    failed, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    for task in working:
        task.cancel()
    log("stopping (Ctrl-C again: at once)")
    killing = asyncio.create_task(_kill_at_next(signals, processes))
    for process in reversed(processes):
        await process.stop()
    await running
    killing.cancel()
    reaping.cancel()
    for end in failed:
        end.result()  # raises an error, where that is the end
    log("stopped")


async def _kill_at_next(
    signals: asyncio.Queue[signal.Signals], processes: Sequence[Process]
) -> None:
    await signals.get()
    for process in processes:
        process.kill()


async def _reap_orphans(processes: Sequence[Process]) -> None:
    """Reaps dead orphans, but not `processes`, which asyncio waits for."""
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
