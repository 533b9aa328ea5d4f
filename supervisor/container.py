"""`python3 -m supervisor.container`: keeps Triton alone running, as `make serve` does."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from secrets import token_urlsafe

from protocol.settings import Environment, SettingsError, wrong
from supervisor import tritonserver
from supervisor.settings import PROJECT
from supervisor.supervision import supervise


def admin_key(variables: Mapping[str, str]) -> str:
    """The key that the gateway reads, too. Draws one into a file that is missing or empty.

    Raises:
        SettingsError: there is no key and no file for one, or one of them is wrong.
    """
    environment = Environment(variables)
    if path := environment.text("TRITON_ADMIN_KEY_FILE"):
        try:
            _draw(Path(path))
        except OSError:
            raise wrong("TRITON_ADMIN_KEY_FILE", path, "a file that may be written") from None
    if key := environment.admin_key():
        return key
    raise SettingsError("set TRITON_ADMIN_KEY or TRITON_ADMIN_KEY_FILE, as for the gateway")


def _draw(file: Path) -> None:
    if not file.exists():
        file.touch(0o600)
    if not file.stat().st_size:
        file.write_text(token_urlsafe())


def main() -> None:
    try:
        server, settings = tritonserver.check(os.environ)
        key = admin_key(os.environ)
    except ValueError as error:
        sys.exit(f"triton: {error}")
    os.chdir(PROJECT)  # where the stubs find our code, whatever PYTHONPATH says
    asyncio.run(supervise([tritonserver.process(server, settings, key, os.environ)]))


if __name__ == "__main__":
    main()
