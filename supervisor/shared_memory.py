"""Triton's files in /dev/shm: one for each stub, which leaves it behind when it is killed."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

FOLDER = Path("/dev/shm")
NAME = "audiocraft-service-{}-"  # with the supervisor's process id


def prefix() -> str:
    return NAME.format(os.getpid())


def clean() -> None:
    """Removes the files of this supervisor, whose Triton must not run, and those of dead ones."""
    for file in FOLDER.glob(NAME.format("*") + "*"):
        owner = re.match(NAME.format(r"(\d+)"), file.name)
        if owner and (int(owner[1]) == os.getpid() or not Path("/proc", owner[1]).exists()):
            with suppress(OSError):  # another user's file, or one that is gone already
                file.unlink()
