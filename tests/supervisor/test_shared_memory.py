import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor import shared_memory


@pytest.fixture
def files() -> Iterator[dict[str, Path]]:
    """Real files in /dev/shm: ours, of a living and of a dead supervisor, of another program."""
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    parent = os.getppid()
    names = {
        "ours": shared_memory.prefix() + "test",
        "living": shared_memory.NAME.format(parent) + "test",
        "dead": shared_memory.NAME.format(dead.pid) + "test",
        "other": f"triton_python_backend_shm_region_{dead.pid}",
    }
    files = {owner: shared_memory.FOLDER / name for owner, name in names.items()}
    for file in files.values():
        file.touch()
    yield files
    for file in files.values():
        file.unlink(missing_ok=True)


def left(files: dict[str, Path]) -> set[str]:
    return {owner for owner, file in files.items() if file.exists()}


def test_files_of_ours_and_of_dead_supervisors_are_removed(files: dict[str, Path]) -> None:
    shared_memory.clean()
    assert left(files) == {"living", "other"}
