import ast
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from supervisor import preflight


def lack(**differences: Any) -> str:
    """The lack of a machine that fits except for `differences`."""
    machine = {
        "system": "Linux",
        "machine": "x86_64",
        "python": (3, 11),
        "has_venv": True,
        "tritonserver": None,
        "glibc": "2.36",
        "library": "/usr/lib/libpython3.11.so.1.0",
    }
    return preflight.lack(**{**machine, **differences}) or ""


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *command],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_old_python_can_read_it() -> None:
    ast.parse(Path(preflight.__file__).read_text(), feature_version=(3, 6))


def test_a_machine_that_runs_these_tests_lacks_nothing() -> None:
    result = run(preflight.__file__)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_lack_is_one_line_and_exit_code_1() -> None:
    script = (
        "import runpy, sys; sys.version_info = (3, 14); "
        f"runpy.run_path({preflight.__file__!r}, run_name='__main__')"
    )
    result = run("-c", script)
    assert result.returncode == 1
    assert result.stderr == f"cannot run here: {lack(python=(3, 14))}\n"


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "x86_64"), ("Linux", "aarch64")])
def test_another_platform_is_named(system: str, machine: str) -> None:
    message = f"this is {system} on {machine}, but Triton is for Linux on x86-64"
    assert lack(system=system, machine=machine).startswith(message)


@pytest.mark.parametrize("version", [(3, 6), (3, 9), (3, 13)])
def test_another_python_says_how_to_choose_one(version: tuple[int, int]) -> None:
    assert "make serve PYTHON=python3.11" in lack(python=version)


@pytest.mark.parametrize("version", [(3, 10), (3, 11), (3, 12)])
def test_three_pythons_fit(version: tuple[int, int]) -> None:
    assert lack(python=version) == ""


def test_a_missing_venv_names_the_package() -> None:
    assert lack(has_venv=False).endswith("apt install python3.11-venv")


@pytest.mark.parametrize(
    ("version", "fits"), [("2.35", True), ("2.41", True), ("2.31", False), ("", False)]
)
def test_glibc_is_2_35_or_newer(version: str, fits: bool) -> None:
    assert (lack(glibc=version) == "") == fits


def test_a_missing_libpython_names_the_package() -> None:
    assert "apt install libpython3.11 " in lack(library=None)


def test_a_tritonserver_on_path_brings_its_libraries() -> None:
    assert lack(tritonserver="/bin/tritonserver", glibc="", library=None) == ""


def test_libpython_is_this_pythons_library() -> None:
    path = preflight.libpython()
    assert path is not None
    assert Path(path).name == f"libpython3.{sys.version_info.minor}.so.1.0"
    assert platform.architecture(path)[0] == "64bit"
