"""The gateway as a process."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest


def start(**environment: object) -> subprocess.Popen[str]:
    settings = {name: str(value) for name, value in environment.items()}
    return subprocess.Popen(
        [sys.executable, "-m", "gateway"],
        env={**os.environ, "TRITON_GRPC": "127.0.0.1:1", **settings},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_wrong_setting_ends_it_with_one_line() -> None:
    with start(PORT="http") as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert said == "gateway: PORT='http' is wrong: set it to a whole number from 1 to 65535\n"


def test_a_taken_port_ends_it_with_one_line(taken: int) -> None:
    with start(PORT=taken) as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert said.splitlines()[-1].startswith(f"gateway: HOST=127.0.0.1 PORT={taken} cannot be used")
    assert "Traceback" not in said


def test_sigterm_ends_it_in_peace() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with start(PORT=port) as process:
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
                    assert answer.status == 200
                    break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=5)
    assert process.returncode == 0
    assert "Traceback" not in said
