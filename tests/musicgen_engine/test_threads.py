"""The failure of an essential thread is the end of its process."""

import subprocess
import sys

from tests.conftest import ROOT

SCRIPT = """
from musicgen_engine.threads import start_essential

start_essential(lambda: {work}).join()
print("still here")
"""


def run(work: str) -> "subprocess.CompletedProcess[str]":
    script = SCRIPT.format(work=work)
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_a_thread_that_fails_ends_the_process_and_says_why() -> None:
    done = run("1 / 0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "ZeroDivisionError" in done.stderr


def test_a_thread_that_returns_ends_nothing() -> None:
    assert run("None").stdout == "still here\n"
