"""Says in one line what this machine lacks, before anything is installed.

Run by the system's Python (`python3 supervisor/preflight.py`), whichever that is: the syntax here
is Python 3.6's, so that an old one can still say that it is too old.
"""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from typing import Iterator, Optional, Tuple

OLDEST, NEWEST = (3, 10), (3, 12)
GLIBC = (2, 35)


def libpython() -> Optional[str]:
    """The path of this Python's shared library, which Triton's Python backend links."""
    name = "libpython{}.{}.so.1.0".format(*sys.version_info[:2])
    library = sysconfig.get_config_var("LIBDIR") or ""
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    folders = [library, os.path.join(library, multiarch), os.path.join(sys.base_prefix, "lib")]
    for path in (os.path.join(folder, name) for folder in folders):
        if os.path.exists(path):
            return path
    try:
        cache = subprocess.check_output(["/sbin/ldconfig", "-p"], universal_newlines=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    for line in cache.splitlines():
        if line.split()[0] == name and "x86-64" in line:
            return line.split(" => ")[1]
    return None


def platform_lack(system: str, machine: str) -> Optional[str]:
    if (system, machine) == ("Linux", "x86_64"):
        return None
    return (
        "this is {} on {}, but Triton is for Linux on x86-64: use such a machine, "
        "or a container or virtual machine of that kind"
    ).format(system, machine)


def python_lack(version: Tuple[int, int]) -> Optional[str]:
    if OLDEST <= version <= NEWEST:
        return None
    return (
        "Python {}.{} does not fit, it takes 3.10, 3.11 or 3.12: "
        "install one, then say make serve PYTHON=python3.11"
    ).format(*version)


def venv_lack(version: Tuple[int, int]) -> Optional[str]:
    try:
        import ensurepip  # noqa: F401  what Debian leaves out of python3, beside venv
        import venv  # noqa: F401
    except ImportError:
        return "Python's venv module is missing: apt install python{}.{}-venv".format(*version)
    return None


def glibc_lack(version: str) -> Optional[str]:
    """`version`: as `platform.libc_ver` gives it, empty where the C library is another one."""
    if tuple(int(part) for part in version.split(".") if part.isdigit()) >= GLIBC:
        return None
    return (
        "this system has {}, but Triton needs glibc 2.35 or newer: use Debian 12, Ubuntu 22.04 "
        "or newer, or run inside Triton's container"
    ).format("glibc " + version if version else "no glibc")


def libpython_lack(version: Tuple[int, int], path: Optional[str]) -> Optional[str]:
    if path:
        return None
    return (
        "libpython{0}.{1}.so.1.0 is missing, which Triton's Python backend needs: "
        "apt install libpython{0}.{1} (or use a Python built with --enable-shared)"
    ).format(*version)


def lacks() -> Iterator[Optional[str]]:
    version = sys.version_info[:2]
    yield platform_lack(platform.system(), platform.machine())
    yield python_lack(version)
    yield venv_lack(version)
    if not shutil.which("tritonserver"):  # a container's server brings its own libraries
        yield glibc_lack(platform.libc_ver()[1])
        yield libpython_lack(version, libpython())


if __name__ == "__main__":
    for lack in lacks():
        if lack:
            sys.exit("cannot run here: " + lack)
