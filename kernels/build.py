"""`python -m kernels.build` compiles the native code, once for every instruction set.

It takes the system's C++ compiler. Without one it installs a compiler from PyPI into a folder that
it removes again, since that needs 400 MB.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kernels import FOLDER, INSTRUCTION_SETS, InstructionSet, libraries

SOURCES = [str(file) for file in sorted(FOLDER.glob("*.cpp"))]
COMPILER = FOLDER.parent / "requirements" / "compiler.txt"  # a compiler as a Python package
PIP = (sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check")
GLIBC = "2.35"  # as old as Triton allows
OPTIONS = (
    *("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-exceptions", "-fno-rtti"),
)


def build(folder: Path, compiler: Sequence[str], *options: str) -> None:
    """Compile a library for each instruction set into `folder`, and remove those of other sources.

    Raises:
        subprocess.CalledProcessError: the compiler failed, and has printed why.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def compile(one: InstructionSet) -> None:
        part = Path(parts, one.library.name)
        command = [*compiler, *OPTIONS, *one.options, *options, *SOURCES, "-o", str(part)]
        subprocess.run(command, check=True)
        part.rename(folder / one.library.name)

    # Never half a library under its name, also when two builds run.
    threads = ThreadPoolExecutor(os.cpu_count())
    with tempfile.TemporaryDirectory(dir=folder) as parts, threads:
        list(threads.map(compile, INSTRUCTION_SETS))
    names = {one.library.name for one in INSTRUCTION_SETS}
    for file in folder.glob("musicgen-*.so"):
        if file.name not in names:
            file.unlink(missing_ok=True)


def build_with_package(folder: Path) -> None:
    """As `build`, with the compiler from PyPI."""
    with tempfile.TemporaryDirectory() as packages:
        install = [*PIP, "--target", packages, "-r", str(COMPILER)]
        subprocess.run(install, check=True)
        os.environ |= {"PYTHONPATH": packages, "ZIG_GLOBAL_CACHE_DIR": packages}
        target = ("-target", f"x86_64-linux-gnu.{GLIBC}", "-nostdlib++")
        build(folder, [sys.executable, "-m", "ziglang", "c++"], *target)


def main() -> None:
    compiler = shutil.which("c++")
    try:
        if compiler:
            build(libraries(), [compiler], "-Wl,--as-needed")
        else:
            print("There is no C++ compiler here; installing one for this build", flush=True)
            build_with_package(libraries())
    except (subprocess.CalledProcessError, OSError) as error:
        sys.exit(
            f"The native code cannot be built: {_problem(error, compiler)}, and build again. "
            "The service works without it, five times slower on a CPU."
        )


def _problem(error: subprocess.CalledProcessError | OSError, compiler: str | None) -> str:
    """The cause and the remedy. A compiler has printed more."""
    if isinstance(error, OSError):
        return f"{error.filename} cannot be used ({error.strerror}). Mend that"
    if compiler:
        return f"{compiler} fails. Mend it, or take it from the PATH for one from PyPI"
    return "the compiler from PyPI cannot be installed, or fails. Connect to PyPI, or install g++"


if __name__ == "__main__":
    main()
