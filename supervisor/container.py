"""`python3 -m supervisor.container`: becomes Triton, with the command line of `make serve`.

In a container each program is the only one: Docker starts it again when it dies, and what a killed
stub leaves in /dev/shm goes with the container.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from secrets import token_urlsafe

from protocol.settings import Settings as EngineSettings
from supervisor import shared_memory
from supervisor.settings import PROJECT, Settings
from supervisor.tritonserver import TritonServer


def admin_key(environment: Mapping[str, str]) -> str:
    """TRITON_ADMIN_KEY, or that of the file which TRITON_ADMIN_KEY_FILE names: the gateway reads it
    there, too. Where there is no such file yet, or an empty one, draws a key into it.

    Raises:
        ValueError: neither is set, the file cannot be read or written, or it is no such key.
    """
    key = environment.get("TRITON_ADMIN_KEY", "").strip() or _key_of_file(environment)
    if not re.fullmatch(r"[A-Za-z0-9_-]{16,}", key):
        raise ValueError("TRITON_ADMIN_KEY is wrong: give 16 letters, digits, - and _ or more")
    return key


def _key_of_file(environment: Mapping[str, str]) -> str:
    path = environment.get("TRITON_ADMIN_KEY_FILE", "").strip()
    if not path:
        raise ValueError("set TRITON_ADMIN_KEY or TRITON_ADMIN_KEY_FILE, as for the gateway")
    file = Path(path)
    try:
        if not file.exists():
            file.touch(0o600)
        if not (key := file.read_text("utf-8-sig").strip()):
            key = token_urlsafe()
            file.write_text(key)
        return key
    except OSError as error:
        raise ValueError(f"TRITON_ADMIN_KEY_FILE={path}: {error.strerror}") from None


def main() -> None:
    try:
        settings = Settings.of(os.environ)
        EngineSettings.of(os.environ)  # what the stubs would refuse, over and over
        server = TritonServer.find()
        key = admin_key(os.environ)
    except ValueError as error:
        sys.exit(f"triton: {error}")
    command = server.command(settings, shared_memory.prefix(), key)
    os.chdir(PROJECT)  # where the stubs find our code, whatever PYTHONPATH says
    os.execve(command[0], command, server.environment(os.environ))


if __name__ == "__main__":
    main()
