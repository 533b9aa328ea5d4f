"""The native code compiles, with the system's compiler and with the one from PyPI, and is clean."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kernels
from kernels.build import build
from tests.conftest import ROOT

NATIVE = "tests/musicgen_engine/model/test_native.py"
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")


def run(*command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_this_processor_has_a_library() -> None:
    assert kernels.library() in [one.library for one in kernels.supported()]


def test_an_instruction_set_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in kernels.supported():
        monkeypatch.setenv("KERNEL", one.name)
        assert kernels.library() == one.library
    monkeypatch.setenv("KERNEL", "no such set")
    assert kernels.library() is None


@pytest.mark.slow
def test_without_a_compiler_one_is_installed_for_the_build(tmp_path: Path) -> None:
    done = run(sys.executable, "-m", "kernels.build", PATH="/nowhere", KERNELS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "no C++ compiler here" in done.stdout
    names = {one.library.name for one in kernels.INSTRUCTION_SETS}
    assert {file.name for file in tmp_path.iterdir()} == names
    tests = run(sys.executable, "-m", "pytest", "-q", NATIVE, KERNELS=str(tmp_path))
    assert tests.returncode == 0, tests.stdout


@pytest.mark.slow
def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    """Of addresses and of undefined behaviour, while all tests of the native code run."""
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler here")
    build(tmp_path, [compiler], *SANITIZERS)
    libraries = [
        run(compiler, f"-print-file-name={name}") for name in ("libasan.so", "libubsan.so")
    ]
    preload = " ".join(library.stdout.strip() for library in libraries)
    tests = run(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:faulthandler", NATIVE),
        KERNELS=str(tmp_path), LD_PRELOAD=preload, ASAN_OPTIONS="detect_leaks=0",
    )  # fmt: skip
    assert tests.returncode == 0, tests.stdout + tests.stderr
