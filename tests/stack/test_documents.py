"""Every example of the documents runs, with the ports of the stack."""

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import tritonclient.http as triton_http
import yaml

from tests.conftest import ADMIN, ADMIN_KEY, ROOT, TIMEOUT, Stack
from tests.test_monitoring import (
    MONITORING,
    alert_queries,
    asked,
    autoscaler_queries,
    panel_queries,
)

DOCUMENTS = [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [
    pytest.param(language, code, id=f"{document.stem}-{number}-{language}")
    for document in DOCUMENTS
    for number, (language, code) in enumerate(
        re.findall(r"```(python|bash|js)\n(.*?)```", document.read_text(), re.DOTALL), 1
    )
]

SHELLS = {
    "python": [sys.executable, "-c"],
    "bash": ["bash", "-euo", "pipefail", "-c"],
    "js": ["node", "--input-type=module", "--eval"],
}


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
    done = listen(stack.url, 10, file)
    assert done.returncode == 0, done.stderr
    assert "of 10 s" in done.stderr and "seed" in done.stderr
    assert soundfile.info(file).duration == 10


def test_the_example_that_steers_says_from_when_on(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "song.wav"
    command = [sys.executable, "examples/steer.py", "calm piano", "--duration", "4"]
    done = subprocess.run(
        [*command, "--out", str(file), "--server", stack.url], cwd=ROOT, input="fast drums\n",
        capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"from [\d.]+ s on: fast drums", done.stdout.strip())
    assert soundfile.info(file).duration == 4


@pytest.fixture
def project(stack: Stack, tmp_path: Path) -> Iterator[Path]:
    """A folder in which examples run; the models that they add go at the end."""
    repository, before = stack.repository, set(stack.repository.iterdir())
    (tmp_path / "model_repository").symlink_to(repository)
    yield tmp_path
    with triton_http.InferenceServerClient(f"127.0.0.1:{stack.triton_http}") as client:
        for model in set(repository.iterdir()) - before:
            client.unload_model(model.name, ADMIN)
            shutil.rmtree(model)


@pytest.mark.parametrize(("language", "code"), EXAMPLES)
def test_an_example_of_the_documents_runs(
    stack: Stack, project: Path, language: str, code: str
) -> None:
    for port, ours in [(8001, stack.port), (8100, stack.triton_http), (8101, stack.triton_grpc)]:
        code = code.replace(f"localhost:{port}", f"localhost:{ours}")
    if language == "js" and not shutil.which("node"):
        pytest.skip("needs Node.js")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TRITON_ADMIN_KEY": ADMIN_KEY}
    done = subprocess.run(
        [*SHELLS[language], code], cwd=project, env=environment,
        capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"error"' not in done.stdout, done.stdout


def test_prometheus_finds_the_metrics_of_all_queries(stack: Stack) -> None:
    [job] = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    ports = {"gateway:8001": stack.port, "triton:8102": stack.triton_metrics}
    found = set()
    for target in job["static_configs"][0]["targets"]:
        with urllib.request.urlopen(f"http://localhost:{ports[target]}/metrics") as page:
            found |= set(re.findall(r"^# HELP (\w+)", page.read().decode(), re.MULTILINE))
    queries = [*panel_queries(), *alert_queries(), *autoscaler_queries()]
    used = {name.removesuffix("_bucket") for query in queries for name in asked(query)}
    assert len(used) > 4 and used <= found
