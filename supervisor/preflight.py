"""Names in one line what this machine lacks, before anything is installed.

The system's Python runs this file (`python3 supervisor/preflight.py`). The syntax is Python 3.6's,
so that an old Python can still say that it is too old.
"""

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from typing import Optional, Tuple


def libpython() -> Optional[str]:
    """The path of this Python's shared library, which Triton's Python backend links."""
    name = "libpython{}.{}.so.1.0".format(*sys.version_info[:2])
    library = sysconfig.get_config_var("LIBDIR") or ""
    multiarch = os.path.join(library, sysconfig.get_config_var("MULTIARCH") or "")
    folders = [library, multiarch, os.path.join(sys.base_prefix, "lib")]
    folders += ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/local/lib"]  # of another Python
    return next(filter(os.path.exists, (os.path.join(folder, name) for folder in folders)), None)


def lack(
    system: str,
    machine: str,
    python: Tuple[int, int],
    has_venv: bool,
    tritonserver: Optional[str],
    glibc: str,
    library: Optional[str],
) -> Optional[str]:
    """The first thing that is missing, and its remedy.

    A `tritonserver` on PATH brings its own libraries. `glibc` is empty for another C library.
    """
    version = "{}.{}".format(*python)
    if (system, machine) != ("Linux", "x86_64"):
        return (
            f"this is {system} on {machine}, but Triton is for Linux on x86-64: "
            "use such a machine, or a container or virtual machine of that kind"
        )
    if not (3, 10) <= python <= (3, 12):
        return (
            f"Python {version} does not fit, it takes 3.10, 3.11 or 3.12: "
            "install one, then say make serve PYTHON=python3.11"
        )
    if not has_venv:
        return f"Python's venv module is missing: apt install python{version}-venv"
    if tritonserver:
        return None
    if tuple(int(part) for part in glibc.split(".") if part.isdigit()) < (2, 35):
        return (
            f"this system has {f'glibc {glibc}' if glibc else 'no glibc'}, but Triton needs glibc "
            "2.35 or newer: use Debian 12, Ubuntu 22.04 or newer, or run inside Triton's container"
        )
    if not library:
        return (
            f"libpython{version}.so.1.0 is missing, which Triton's Python backend needs: "
            f"apt install libpython{version} (or use a Python built with --enable-shared)"
        )
    return None


if __name__ == "__main__":
    found = lack(
        platform.system(),
        platform.machine(),
        sys.version_info[:2],
        # Debian leaves ensurepip out of python3 as well as venv.
        all(map(importlib.util.find_spec, ("venv", "ensurepip"))),
        shutil.which("tritonserver"),
        platform.libc_ver()[1],
        libpython(),
    )
    if found:
        sys.exit("cannot run here: " + found)
