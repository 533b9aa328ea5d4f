import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.settings import PROJECT, TritonSettings
from supervisor.tritonserver import TritonServer


def test_a_server_on_path_comes_first_with_its_own_backends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "tritonserver"
    binary.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    server = TritonServer.find()
    assert server.binary == binary
    assert not any("backend-directory" in word for word in server.command(TritonSettings(), "key"))


def test_the_wheels_server_runs_with_its_libraries() -> None:
    server = TritonServer.find()
    result = subprocess.run(
        [server.binary, "--help"],
        env=server.environment(TritonSettings(), os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "--model-repository" in result.stdout + result.stderr


@pytest.mark.skipif(TritonServer.find().backends is None, reason="there is a server on PATH")
def test_the_wheels_stub_finds_every_library() -> None:
    server = TritonServer.find()
    assert server.backends is not None
    for name in ("libtriton_python.so", "triton_python_backend_stub"):
        file = server.backends / "python" / name
        environment = server.environment(TritonSettings(), os.environ)
        libraries = subprocess.check_output(["ldd", file], env=environment, text=True)
        assert "not found" not in libraries


def test_finding_the_server_again_changes_no_file() -> None:
    server = TritonServer.find()
    if server.backends:
        before = (server.backends / "python").stat().st_mtime_ns
        TritonServer.find()
        assert (server.backends / "python").stat().st_mtime_ns == before


def test_triton_listens_on_loopback_only() -> None:
    settings = TritonSettings.from_environment({"HOST": "0.0.0.0", "TRITON_HTTP_PORT": "8100"})
    command = TritonServer.find().command(settings, "key")
    for service in ("http", "grpc", "metrics"):
        assert f"--{service}-address=127.0.0.1" in command


def test_only_the_front_model_is_loaded_at_start() -> None:
    command = TritonServer.find().command(TritonSettings(), "key")
    assert [word for word in command if word.startswith("--load-model")] == [
        "--load-model=musicgen"
    ]
    assert "--model-control-mode=explicit" in command


def test_models_of_the_start_are_loaded_after_the_front() -> None:
    settings = TritonSettings(load_models=("musicgen-tiny", "musicgen-small"))
    command = TritonServer.find().command(settings, "key")
    assert [word for word in command if word.startswith("--load-model")] == [
        "--load-model=musicgen", "--load-model=musicgen-tiny", "--load-model=musicgen-small"
    ]  # fmt: skip


def test_stubs_find_our_code_and_this_python_first() -> None:
    environment = TritonServer.find().environment(
        TritonSettings(), {"PATH": "/bin", "PYTHONPATH": "/other", "HOME": "/home"}
    )
    assert environment["PYTHONPATH"] == f"{PROJECT}:/other"
    assert environment["PATH"] == f"{Path(sys.executable).parent}:/bin"
    assert environment["HOME"] == "/home"


def test_triton_does_not_get_the_gateways_secrets() -> None:
    secrets = {"API_KEYS": "key", "TRITON_ADMIN_KEY": "key"}
    environment = TritonServer.find().environment(
        TritonSettings(), {**secrets, "HF_TOKEN": "theirs"}
    )
    assert secrets.keys().isdisjoint(environment)
    assert environment["HF_TOKEN"] == "theirs"
