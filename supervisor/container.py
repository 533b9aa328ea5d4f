"""`python3 -m supervisor.container`: becomes Triton, with the command line of `make serve`.

A container has one program: Docker restarts it when it dies, and the files of a killed stub in
/dev/shm go with the container.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from secrets import token_urlsafe

from supervisor import tritonserver
from supervisor.settings import PROJECT


def admin_key(environment: Mapping[str, str]) -> str:
    """TRITON_ADMIN_KEY, or the key in TRITON_ADMIN_KEY_FILE, where the gateway reads it too.

    Draws a key into a file that is missing or empty.

    Raises:
        ValueError: neither variable is set, the file is unusable, or the key is wrong.
    """
    key = environment.get("TRITON_ADMIN_KEY", "").strip()
    path = environment.get("TRITON_ADMIN_KEY_FILE", "").strip()
    if not key and not path:
        raise ValueError("set TRITON_ADMIN_KEY or TRITON_ADMIN_KEY_FILE, as for the gateway")
    try:
        key = key or _read_or_draw(Path(path))
    except OSError as error:
        raise ValueError(f"TRITON_ADMIN_KEY_FILE={path}: {error.strerror}") from None
    if not re.fullmatch(r"[A-Za-z0-9_-]{16,}", key):
        raise ValueError("TRITON_ADMIN_KEY is wrong: give 16 letters, digits, - and _ or more")
    return key


def _read_or_draw(file: Path) -> str:
    if not file.exists():
        file.touch(0o600)
    key = file.read_text("utf-8-sig").strip()
    if not key:
        key = token_urlsafe()
        file.write_text(key)
    return key


def main() -> None:
    try:
        server, settings = tritonserver.check(os.environ)
        command = server.command(settings, admin_key(os.environ))
    except ValueError as error:
        sys.exit(f"triton: {error}")
    os.chdir(PROJECT)  # where the stubs find our code, whatever PYTHONPATH says
    os.execve(command[0], command, server.environment(os.environ))


if __name__ == "__main__":
    main()
