"""Triton and gateway as on two machines, with a certificate between them."""

import asyncio
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc.service_pb2 import ServerLiveRequest
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from protocol import tls
from supervisor.settings import TritonSettings
from supervisor.tritonserver import Liveness
from tests.certificate import certificate
from tests.conftest import (
    ADMIN_KEY,
    ROOT,
    Stack,
    clean_environment,
    free_ports,
    repository_with,
    until,
)
from tests.test_chart import CHART


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def triton(folder: Path) -> Iterator[Stack]:
    environment = {"TRITON_TLS": str(folder), "LOAD_MODELS": "musicgen-tiny"}
    repository = repository_with(folder.parent / "models", "musicgen-tiny")
    stack = Stack(repository, environment, program="supervisor.container")
    try:
        yield stack
    finally:
        stack.stop()
        print(stack.log.read_text())


@pytest.fixture(scope="module")
def gateway(triton: Stack, folder: Path) -> Iterator[str]:
    [port] = free_ports(1)
    environment = {
        **clean_environment(),
        "PORT": str(port),
        "TRITON_POOLS": f"musicgen-tiny=localhost:{triton.triton_grpc}",
        "TRITON_TLS": str(folder),
    }
    url = f"http://localhost:{port}"
    command = [sys.executable, "supervisor/tether.py", str(os.getpid()), sys.executable]
    with subprocess.Popen([*command, "-m", "gateway"], cwd=ROOT, env=environment) as process:
        try:
            until(lambda: status(f"{url}/readyz") == 200)
            yield url
        finally:
            process.terminate()


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_the_charts_test_makes_a_song_over_tls(gateway: str) -> None:
    environment = {**os.environ, "GATEWAY": gateway, "MODELS": "musicgen-tiny"}
    command = [sys.executable, str(CHART / "files" / "song.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("musicgen-tiny: ")


def test_the_charts_test_says_what_is_wrong(gateway: str) -> None:
    environment = {**os.environ, "GATEWAY": gateway, "MODELS": "musicgen-tny"}
    command = [sys.executable, str(CHART / "files" / "song.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "musicgen-tny: HTTP Error 404" in done.stderr and "unknown_model" in done.stderr


@pytest.mark.usefixtures("gateway")  # which runs once Triton does
@pytest.mark.parametrize("shown", ["nothing", "no certificate", "another certificate"])
def test_triton_answers_nobody_without_its_certificate(
    shown: str, triton: Stack, folder: Path, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{triton.triton_grpc}"
    options = [("grpc.ssl_target_name_override", tls.NAME)]
    authority, _, _ = tls.contents(folder)
    if shown == "nothing":
        channel = grpc.insecure_channel(address)
    elif shown == "no certificate":
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(authority), options)
    else:
        _, key, other = tls.contents(certificate(tmp_path))
        credentials = grpc.ssl_channel_credentials(authority, key, other)
        channel = grpc.secure_channel(address, credentials, options)
    with channel, pytest.raises(grpc.RpcError) as raised:
        GRPCInferenceServiceStub(channel).ServerLive(ServerLiveRequest(), timeout=10)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.usefixtures("gateway")
def test_triton_lives_though_its_certificate_is_replaced(
    triton: Stack, folder: Path, tmp_path: Path
) -> None:
    used = shutil.copytree(folder, tmp_path / "used")
    live = Liveness(TritonSettings(grpc_port=triton.triton_grpc, tls=used), ADMIN_KEY)
    live.read_certificate()
    shutil.copytree(certificate(tmp_path), used, dirs_exist_ok=True)
    assert asyncio.run(live())
    live.read_certificate()  # as before the next start of Triton
    assert not asyncio.run(live())
