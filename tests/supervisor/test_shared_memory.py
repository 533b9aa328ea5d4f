import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor import shared_memory
from supervisor.settings import PROJECT


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


def test_triton_starts_with_the_wanted_models_and_leaves_nothing() -> None:
    for loaded in ([], ["musicgen-tiny"]):  # whatever the one before left
        shared_memory.prepare(PROJECT / "model_repository" / name for name in loaded)
        links = {model.name for model in shared_memory.models().iterdir()}
        assert links == {"musicgen", *loaded}
        (shared_memory.models() / "gone").symlink_to("/nowhere")
    shared_memory.clean()
    assert not shared_memory.models().exists()
