"""A log without its harmless lines."""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import suppress
from threading import Thread

ROOM = 2**20  # bytes; a supervisor that is stopped for a while holds up no program


def stderr_without(harmless: bytes) -> int:
    """A pipe to our stderr, which leaves out the lines with these words: a program's stderr."""
    reading, writing = os.pipe()
    with suppress(OSError):  # the user has many pipes: this one stays smaller
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, ROOM)
    Thread(target=_copy, args=[reading, harmless], daemon=True).start()
    return writing


def _copy(file: int, harmless: bytes) -> None:
    with open(file, "rb") as lines:
        for line in lines:
            if harmless not in line:
                with suppress(OSError):  # the terminal is gone
                    sys.stderr.buffer.write(line)
                    sys.stderr.buffer.flush()
