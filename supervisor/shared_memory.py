"""Triton's files in /dev/shm: one for each stub, which leaves it behind when it is killed, and
the folder in which Triton looks for models."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from musicgen_engine.repository import link
from supervisor.settings import PROJECT

FOLDER = Path("/dev/shm")
NEEDED = 16_000_000  # bytes for Triton, its models and short songs
NAME = "audiocraft-service-{}-"  # with the supervisor's process id
FRONT = PROJECT / "model_repository" / "musicgen"


def prefix() -> str:
    return NAME.format(os.getpid())


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
    for model in (FRONT, *loaded):
        link(model, models())


def clean() -> None:
    """Removes what is of this supervisor, whose Triton must not run, or of dead ones."""
    for path in FOLDER.glob(NAME.format("*") + "*"):
        owner = re.match(NAME.format(r"(\d+)"), path.name)
        if owner and (int(owner[1]) == os.getpid() or not Path("/proc", owner[1]).exists()):
            with suppress(OSError):  # another user's, or gone already
                shutil.rmtree(path) if path.is_dir() else path.unlink()
