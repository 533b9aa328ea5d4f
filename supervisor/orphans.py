"""What our programs started and left behind when they died: it comes to us, and is buried here."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from contextlib import suppress

PR_SET_CHILD_SUBREAPER = 36
ROUND = 0.5  # seconds


def adopt() -> None:
    """From now on orphans become children of this process, not of the system's first one."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


async def bury(is_ours: Callable[[int], bool]) -> None:
    """Reaps orphans that ended, for ever; `is_ours` tells the processes that others wait for."""
    while True:
        if not _bury_one(is_ours):
            await asyncio.sleep(ROUND)


def _bury_one(is_ours: Callable[[int], bool]) -> bool:
    with suppress(ChildProcessError):  # nobody there
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended and not is_ours(ended.si_pid):
            os.waitpid(ended.si_pid, 0)
            return True
    return False
