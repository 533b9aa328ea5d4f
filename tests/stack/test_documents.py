"""Every example of the documents runs, with the ports of the stack."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from tests.conftest import ADMIN_KEY, ROOT, TIMEOUT, Stack

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [
    pytest.param(language, code, id=f"{document.stem}-{number}-{language}")
    for document in DOCUMENTS
    for number, (language, code) in enumerate(
        re.findall(r"```(python|bash)\n(.*?)```", document.read_text(), re.DOTALL), 1
    )
]


def listen(
    server: str, seconds: int, file: Path, path: str = os.environ["PATH"]
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "examples/listen.py", "slow piano"]
    options = ["--duration", str(seconds), "--out", str(file), "--server", server]
    return subprocess.run(
        [*command, *options], cwd=ROOT, env={**os.environ, "PATH": path},
        capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip


def test_the_example_client_reports_a_missing_server(tmp_path: Path) -> None:
    done = listen("http://localhost:1", 3, tmp_path / "song.wav")
    assert done.returncode == 1
    assert done.stderr.strip().startswith("no server at http://localhost:1: ")


def test_the_example_client_saves_a_song_without_its_player(stack: Stack, tmp_path: Path) -> None:
    player = tmp_path / "ffplay"
    player.write_text("#!/bin/sh\n")
    player.chmod(0o755)
    file = tmp_path / "song.wav"
    done = listen(stack.url, 4, file, f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert soundfile.info(file).duration == 4


def test_the_example_client_saves_a_song_and_shows_progress(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "song.wav"
    done = listen(stack.url, 3, file)
    assert done.returncode == 0, done.stderr
    assert "of 3 s" in done.stderr and "seed" in done.stderr
    assert soundfile.info(file).duration == 3


@pytest.mark.parametrize(("language", "code"), EXAMPLES)
def test_an_example_of_the_documents_runs(
    stack: Stack, tmp_path: Path, language: str, code: str
) -> None:
    for port, ours in [(8001, stack.port), (8100, stack.triton_http), (8101, stack.triton_grpc)]:
        code = code.replace(f"localhost:{port}", f"localhost:{ours}")
    shell = [sys.executable] if language == "python" else ["bash", "-euo", "pipefail"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TRITON_ADMIN_KEY": ADMIN_KEY}
    done = subprocess.run(
        [*shell, "-c", code], cwd=tmp_path, env=environment,
        capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"error"' not in done.stdout, done.stdout
