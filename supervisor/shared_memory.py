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
    """Removes this supervisor's files; only for a time when its Triton does not run."""
    _remove(prefix())


def clean_stale() -> None:
    """Removes the files of dead supervisors."""
    for file in FOLDER.glob(NAME.format("*") + "*"):
        owner = re.match(NAME.format(r"(\d+)"), file.name)
        if owner and not Path("/proc", owner[1]).exists():
            _remove(file.name)


def _remove(start: str) -> None:
    for file in FOLDER.glob(start + "*"):
        with suppress(OSError):  # another user's file, or one that is gone already
            file.unlink()
