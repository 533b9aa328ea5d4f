"""Clients that others' generators make of /openapi.json work as they are."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from shutil import copy
from typing import Any
from urllib.request import urlopen

import pytest
import soundfile

from gateway.settings import GatewaySettings
from tests.conftest import ROOT
from tests.gateway.conftest import running
from tests.gateway.fake_triton import FakeTriton

NODE_TOOLS = ROOT / "requirements/web/node_modules"

pytestmark = pytest.mark.slow
needs_node = pytest.mark.skipif(
    not (NODE_TOOLS / "openapi-typescript").exists(), reason="`make test-all` without npm"
)


@pytest.fixture(scope="module")
def triton() -> FakeTriton:
    return FakeTriton("musicgen-tiny")


@pytest.fixture(scope="module")
def address(triton: FakeTriton) -> Iterator[str]:
    with running(GatewaySettings(poll_interval=0.01), triton) as url:
        yield url


@pytest.fixture(scope="module")
def document(address: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("document") / "openapi.json"
    with urlopen(f"{address}/openapi.json") as response:
        file.write_bytes(response.read())
    return file


def run(*command: "str | Path", cwd: "Path | None" = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(sys.version_info < (3, 11), reason="openapi-python-client needs Python 3.11")
def test_openapi_python_client_generates_and_continues_a_song(
    address: str, triton: FakeTriton, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = document.with_name("python_client")
    generator = Path(sys.executable).with_name("openapi-python-client")
    options = ["--output-path", str(package), "--meta", "none", "--fail-on-warning"]
    monkeypatch.setenv("PATH", str(generator.parent), prepend=":")
    run(generator, "generate", "--path", document, *options)
    monkeypatch.syspath_prepend(str(package.parent))
    generated: Any = importlib.import_module("python_client")
    models: Any = importlib.import_module("python_client.models")
    types: Any = importlib.import_module("python_client.types")
    api = "python_client.api.default"
    generate_song: Any = importlib.import_module(f"{api}.generate_song")
    get_progress: Any = importlib.import_module(f"{api}.get_progress")
    list_models: Any = importlib.import_module(f"{api}.list_models")

    with generated.Client(base_url=address, raise_on_unexpected_status=True) as client:
        song = models.Song(prompt="slow piano", duration=1, format_=models.SongFormat.FLAC)
        beginning = generate_song.sync(client=client, body=song, x_request_id="beginning")
        assert isinstance(beginning, types.File)
        continuation = models.SongForm(
            prompt="slow piano", audio=beginning, duration=2, temperature=2, seed=7
        )
        whole = generate_song.sync_detailed(client=client, body=continuation)
        progress = get_progress.sync("beginning", client=client)
        catalogue = list_models.sync(client=client)
        refused = generate_song.sync(client=client, body=models.Song(prompt="", duration=1))
    assert whole.status_code == 200, whole.content
    assert soundfile.info(BytesIO(whole.content)).duration == 2
    assert whole.headers["X-Seed"] == "7"
    assert triton.requests[-1].temperature == 2
    assert (progress.state, progress.seconds) == ("done", 1)
    assert [model.id for model in catalogue.models] == ["musicgen-tiny"]
    assert refused.error.field == "prompt"


@needs_node
def test_openapi_typescript_generates_and_continues_a_song(
    address: str, triton: FakeTriton, document: Path, tmp_path: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(NODE_TOOLS)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    copy(Path(__file__).with_name("generated_client.ts"), tmp_path / "client.ts")
    tools = NODE_TOOLS / ".bin"
    run(tools / "openapi-typescript", document, "--output", tmp_path / "schema.ts")
    options = ["--strict", "--module", "nodenext", "--target", "es2022", "--types", "node"]
    run(tools / "tsc", *options, "client.ts", cwd=tmp_path)
    said = json.loads(run("node", "client.js", address, "beginning", "whole", cwd=tmp_path))
    assert said == {"seed": "7", "model": "musicgen-tiny"}
    assert soundfile.info(tmp_path / "whole").duration == 2
    assert triton.requests[-1].prompt_frames == 50


@needs_node
def test_redocly_finds_no_error(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDOCLY_TELEMETRY", "off")
    run(NODE_TOOLS / ".bin/redocly", "lint", document)
