"""Triton's files in /dev/shm: one for each stub, which leaves it behind when it is killed, and
the folder in which Triton looks for models. A supervisor locks that folder while it lives:
containers may share /dev/shm without seeing each other's processes."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from musicgen_engine.repository import link
from supervisor.settings import PROJECT

FOLDER = Path("/dev/shm")
NEEDED = 16_000_000  # bytes for Triton, its models and short songs
NAME = "audiocraft-service-{}-"  # with the supervisor's process id, and the namespace of that
FRONT = PROJECT / "model_repository" / "musicgen"

_lock = ExitStack()  # holds the lock


def prefix() -> str:
    return NAME.format(f"{os.getpid()}-{Path('/proc/self/ns/pid').stat().st_ino}")


def check() -> None:
    """Raises ValueError where there is not enough of it."""
    clean()
    if (free := shutil.disk_usage(FOLDER).free) < NEEDED:
        raise ValueError(
            f"{FOLDER} has {free / 1e6:.0f} MB left, but Triton needs {NEEDED / 1e6:.0f} MB for "
            "short songs: free some, enlarge it, or give the container --shm-size=1g"
        )


def models() -> Path:
    """Triton's model repository. It has links to the good folders of MODEL_REPOSITORY, because one
    that Triton cannot read, or whose path holds a space, costs Triton all others. The model
    `musicgen` makes the links."""
    return FOLDER / f"{prefix()}models"


def prepare(loaded: Iterable[Path] = ()) -> None:
    """Leaves `musicgen` and `loaded`, the models of Triton's start, in the folder of models."""
    clean()
    models().mkdir()
    descriptor = os.open(models(), os.O_RDONLY)
    _lock.callback(os.close, descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    for model in (FRONT, *loaded):
        link(model, models())


def clean() -> None:
    """Removes what is of this supervisor, whose Triton must not run, or of dead ones."""
    _lock.close()
    for path in FOLDER.iterdir():
        owner = re.match(NAME.format(r"\d+-\d+"), path.name)
        if owner and not _is_locked(FOLDER / f"{owner[0]}models"):
            with suppress(OSError):  # another user's, or gone already
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_locked(folder: Path) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except PermissionError:  # another user's
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
