import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor import shared_memory
from supervisor.settings import PROJECT

LOCKS = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)\n"
WAITS = LOCKS + "print(flush=True); sys.stdin.read()"


@pytest.fixture
def files() -> Iterator[dict[str, Path]]:
    """Real files in /dev/shm: ours, of a living and of a dead supervisor, of another program. The
    living one has our process id, in another container."""
    names = {
        "ours": shared_memory.prefix() + "test",
        "living": shared_memory.NAME.format(f"{os.getpid()}-1") + "test",
        "dead": shared_memory.NAME.format("1-1") + "test",
        "other": "triton_python_backend_shm_region_1",
    }
    files = {owner: shared_memory.FOLDER / name for owner, name in names.items()}
    folders = [Path(str(files[owner]).replace("test", "models")) for owner in ("living", "dead")]
    for folder in folders:
        folder.mkdir()
    for file in files.values():
        file.touch()
    command = [sys.executable, "-c", WAITS, str(folders[0])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as living:
        assert living.stdout is not None
        living.stdout.readline()
        yield files
    shared_memory.clean()  # the other one is dead by now
    assert not any(folder.exists() for folder in folders)
    files["other"].unlink()


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
