"""The native code compiles, with the system's compiler and with the one from PyPI, and is clean."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import kernels
from kernels.build import build
from musicgen_engine.settings import EngineSettings
from tests.conftest import NOT_BUILT, ROOT

NATIVE = [
    f"tests/musicgen_engine/model/test_{name}.py"
    for name in ("native", "native_codec", "native_sampler")
]
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")


def run(*command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def fake_compiler(folder: Path, script: str) -> None:
    """A C++ compiler that stands first in the PATH."""
    (folder / "c++").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "c++").chmod(0o755)


def test_the_native_code_is_built() -> None:
    """Other tests are skipped without it; this one fails, so that a suite never leaves it out."""
    assert kernels.library(), NOT_BUILT


def test_an_instruction_set_can_be_chosen() -> None:
    for one in kernels.supported():
        assert kernels.chosen({"KERNEL": one.name}) == [one]
    assert kernels.chosen({"KERNEL": " "}) == kernels.supported()


@pytest.mark.parametrize("name", ["avx-2", "AVX2", "lacking"])
def test_another_instruction_set_is_refused(name: str) -> None:
    """Misspelt, or of another processor."""
    if name == "lacking":
        lacking = [one for one in kernels.INSTRUCTION_SETS if one not in kernels.supported()]
        if not lacking:
            pytest.skip("this processor has them all")
        name = lacking[0].name
    names = " or ".join(one.name for one in kernels.supported())
    message = f"^KERNEL='{name}' is wrong: set it to {names}, which this processor has$"
    with pytest.raises(ValueError, match=message):
        EngineSettings.from_environment({"KERNEL": name})


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """The folder of a copy of the native code, in which a source differs. Its libraries are those
    of the sources here."""
    folder = tmp_path / "a copy"
    shutil.copytree(kernels.FOLDER, folder / "kernels")
    with (folder / "kernels" / "pool.h").open("a") as source:
        source.write("// another interface")
    return folder


def test_a_library_of_other_sources_is_not_loaded(changed: Path) -> None:
    """It may crash: its functions may take other arguments."""
    code = "import kernels; print(kernels.library())"
    for folder, library in ((ROOT, kernels.library()), (changed, None)):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True
        )
        assert done.stdout == f"{library}\n"


def test_a_build_removes_libraries_of_other_sources(tmp_path: Path) -> None:
    libraries = tmp_path / "a folder"
    libraries.mkdir()
    old = libraries / "musicgen-avx2-0123456789ab.so"
    old.touch()
    fake_compiler(tmp_path, 'while [ $# -gt 1 ]; do shift; done; echo > "$1"')
    build(libraries, [str(tmp_path / "c++")])
    assert len(list(libraries.iterdir())) == len(kernels.INSTRUCTION_SETS)
    assert not old.exists()


def test_a_failed_build_says_why(tmp_path: Path) -> None:
    fake_compiler(tmp_path, "exit 3")
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = run(sys.executable, "-m", "kernels.build", PATH=path, KERNELS=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith(f"The native code cannot be built: {tmp_path / 'c++'} fails. ")


def test_a_folder_that_cannot_be_written_is_named() -> None:
    done = run(sys.executable, "-m", "kernels.build", KERNELS="/dev/null/lib")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "/dev/null/lib cannot be used (Not a directory). Mend that" in line


def test_a_compiler_that_is_no_program_is_named(tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_bytes(b"\0")
    compiler.chmod(0o755)
    done = run(sys.executable, "-m", "kernels.build", PATH=str(tmp_path), KERNELS=str(tmp_path))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert f"{compiler} cannot be used (Exec format error). Mend that" in line


def test_without_a_compiler_and_a_network_the_remedy_is_named(tmp_path: Path) -> None:
    variables = {"PATH": "/nowhere", "KERNELS": str(tmp_path), "PIP_NO_INDEX": "1"}
    done = run(sys.executable, "-m", "kernels.build", **variables)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("The native code cannot be built: ")
    assert "Connect to PyPI, or install g++" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_builds_at_once_do_not_meet(tmp_path: Path) -> None:
    """A compilation ends when the other build has begun the same one."""
    script = f"""
        while [ $# -gt 1 ]; do shift; done
        begun={tmp_path}/$(basename "$1")
        echo whole > "$1"
        echo >> $begun
        for i in $(seq 100); do [ $(wc -l < $begun) -lt 2 ] && sleep 0.05; done
        true
    """
    fake_compiler(tmp_path, script)
    libraries = tmp_path / "libraries"
    with ThreadPoolExecutor() as threads:
        both = [threads.submit(build, libraries, [str(tmp_path / "c++")]) for _ in range(2)]
    assert not any(one.exception() for one in both)
    assert len(list(libraries.iterdir())) == len(kernels.INSTRUCTION_SETS)


@pytest.mark.slow
def test_without_a_compiler_one_is_installed_for_the_build(tmp_path: Path) -> None:
    done = run(sys.executable, "-m", "kernels.build", PATH="/nowhere", KERNELS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "no C++ compiler here" in done.stdout
    names = {one.library.name for one in kernels.INSTRUCTION_SETS}
    assert {file.name for file in tmp_path.iterdir()} == names
    tests = run(sys.executable, "-m", "pytest", "-q", *NATIVE, KERNELS=str(tmp_path))
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
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:faulthandler", *NATIVE),
        KERNELS=str(tmp_path), LD_PRELOAD=preload, ASAN_OPTIONS="detect_leaks=0",
    )  # fmt: skip
    assert tests.returncode == 0, tests.stdout + tests.stderr
