import ast
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor import preflight


def run(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, preflight.__file__],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_old_python_can_read_it() -> None:
    ast.parse(Path(preflight.__file__).read_text(), feature_version=(3, 6))


def test_a_machine_that_runs_these_tests_lacks_nothing() -> None:
    result = run({"PATH": os.environ["PATH"]})
    assert (result.returncode, result.stderr) == (0, "")


def test_what_is_lacking_is_one_line_and_exit_code_1() -> None:
    script = (
        "import runpy, sys; sys.version_info = (3, 14); "
        f"runpy.run_path({preflight.__file__!r}, run_name='__main__')"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr == f"cannot run here: {preflight.python_lack((3, 14))}\n"


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "x86_64"), ("Linux", "aarch64")])
def test_another_platform_is_named(system: str, machine: str) -> None:
    lack = preflight.platform_lack(system, machine) or ""
    assert lack.startswith(f"this is {system} on {machine}, but Triton is for Linux on x86-64")


@pytest.mark.parametrize("version", [(3, 6), (3, 9), (3, 13)])
def test_another_python_is_told_how_to_choose_one(version: tuple[int, int]) -> None:
    lack = preflight.python_lack(version) or ""
    assert "make serve PYTHON=python3.11" in lack


@pytest.mark.parametrize("version", [(3, 10), (3, 11), (3, 12)])
def test_the_three_pythons_fit(version: tuple[int, int]) -> None:
    assert preflight.python_lack(version) is None


@pytest.mark.parametrize(
    ("version", "fits"), [("2.35", True), ("2.41", True), ("2.31", False), ("", False)]
)
def test_glibc_is_2_35_or_newer(version: str, fits: bool) -> None:
    assert (preflight.glibc_lack(version) is None) == fits


def test_a_missing_libpython_names_the_package() -> None:
    assert "apt install libpython3.11 " in (preflight.libpython_lack((3, 11), None) or "")


def test_libpython_is_this_pythons_library() -> None:
    path = preflight.libpython()
    assert path is not None
    assert Path(path).name == f"libpython3.{sys.version_info.minor}.so.1.0"
    assert platform.architecture(path)[0] == "64bit"
