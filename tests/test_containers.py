"""The files of the containers, checked without Docker."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import GatewaySettings
from musicgen_engine.settings import EngineSettings
from supervisor.container import admin_key
from supervisor.settings import TritonSettings
from supervisor.tritonserver import ADMIN
from tests.conftest import ROOT, until

DOCKERFILES = ("Dockerfile.triton", "Dockerfile.gateway")
COMPOSE = "docker-compose.yml"
OVERRIDES = [f"docker-compose.{name}.yml" for name in ("gateway", "gpu", "triton")]
KEY = "a-key-of-16-letters"


def services() -> dict[str, Any]:
    """The services whose images this project builds."""
    read: dict[str, Any] = yaml.safe_load((ROOT / COMPOSE).read_text())["services"]
    return {name: service for name, service in read.items() if "build" in service}


def overriding(file: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / file).read_text())["services"]
    return read


def variables(service: str) -> set[str]:
    """Those that compose gives to a container, on a machine of its own too."""
    override = overriding(f"docker-compose.{service}.yml")[service]["environment"]
    return {*services()[service]["environment"], *override}


def instructions(dockerfile: str) -> list[list[str]]:
    """The instructions of the last stage, in words."""
    text = (ROOT / dockerfile).read_text().rpartition("FROM ")[2].replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def copied(dockerfile: str) -> dict[str, str]:
    """The folders of the project in the image, by their place in the project."""
    copies = [words for name, *words in instructions(dockerfile) if name == "COPY"]
    return {words[0]: words[1] for words in copies if not words[0].startswith("--")}


def built(dockerfile: str, folder: Path) -> Path:
    """A folder with the files of the project that the image has."""
    for source, target in copied(dockerfile).items():
        shutil.copytree(ROOT / source, folder / target)
    return folder


def command(dockerfile: str) -> list[str]:
    [line] = [" ".join(words) for name, *words in instructions(dockerfile) if name == "CMD"]
    words: list[str] = yaml.safe_load(line)
    return [sys.executable, *words[1:]]


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    assert hadolint
    done = subprocess.run([hadolint, *DOCKERFILES], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_compose_files_have_the_right_form() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    files = [COMPOSE, *OVERRIDES]
    assert sorted(files) == sorted(path.name for path in ROOT.glob("docker-compose*.yml"))
    done = subprocess.run([*check, *files], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    for file in OVERRIDES:
        assert overriding(file).keys() <= services().keys()


@pytest.mark.parametrize("program", ["gateway", "triton"])
def test_a_machine_of_its_own_runs_one_program(program: str) -> None:
    override = overriding(f"docker-compose.{program}.yml")
    [other] = override.keys() - {program}
    assert override[other] == {"profiles": ["elsewhere"]}
    assert override[program]["environment"]["TRITON_TLS"] == "${TRITON_TLS-/tls}"
    assert override[program]["volumes"] == ["./tls:/tls:ro"]
    for needed in override[program].get("depends_on", {}).values():
        assert needed["required"] is False


def test_the_gateway_image_has_every_file_of_the_gateway(tmp_path: Path) -> None:
    folder = built("Dockerfile.gateway", tmp_path)
    environment = {"PATH": os.environ["PATH"], "PORT": "0"}
    done = subprocess.run(
        command("Dockerfile.gateway"),
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stderr.startswith("gateway: PORT='0' is wrong"), done.stderr


def test_the_triton_image_keeps_triton_running_like_make_serve(tmp_path: Path) -> None:
    folder, calls = built("Dockerfile.triton", tmp_path / "service"), tmp_path / "calls"
    server = tmp_path / "tritonserver"
    server.write_text(f'#!/bin/sh\npwd >>{calls}\nprintf "%s\\n" "$@" end >>{calls}\nexit 3\n')
    server.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "TRITON_HOST": "0.0.0.0",
        "TRITON_ADMIN_KEY_FILE": str(tmp_path / "key"),
    }
    with subprocess.Popen(command("Dockerfile.triton"), cwd=folder, env=environment) as process:
        until(lambda: calls.exists() and calls.read_text().count("\nend\n") == 2)
        process.terminate()
    assert process.returncode == 0
    key, words = (tmp_path / "key").read_text(), calls.read_text().splitlines()
    assert words[0] == str(folder)
    assert {"--grpc-address=0.0.0.0", "--grpc-port=8101", "--load-model=musicgen"} <= set(words)
    assert f"--grpc-restricted-protocol={ADMIN}{key}" in words


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_images_run_as_an_ordinary_user(dockerfile: str) -> None:
    users = [words for name, *words in instructions(dockerfile) if name == "USER"]
    assert users == [["1000:1000"]]


def test_both_images_have_the_contract() -> None:
    for dockerfile in DOCKERFILES:
        assert copied(dockerfile)["protocol"] == "protocol"


def test_dockerignore_lets_every_copied_folder_through() -> None:
    allowed = re.findall(r"^!(\w+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert "protocol" in allowed
    for dockerfile in DOCKERFILES:
        sources = re.findall(r"^COPY (\w+)", (ROOT / dockerfile).read_text(), re.MULTILINE)
        assert sources and set(sources) <= set(allowed)


def test_published_ports_are_those_of_the_programs() -> None:
    triton, gateway = TritonSettings(), GatewaySettings()
    ports = [8100, triton.grpc_port, triton.metrics_port]
    published = [f"127.0.0.1:{port}:{port}" for port in ports]
    published[1] = f"${{TRITON_PUBLISH:-127.0.0.1:{triton.grpc_port}}}:{triton.grpc_port}"
    assert services()["triton"]["ports"] == published
    assert services()["gateway"]["ports"] == [
        f"${{PUBLISH:-127.0.0.1:{gateway.port}}}:{gateway.port}"
    ]
    assert services()["gateway"]["environment"]["TRITON_GRPC"] == f"triton:{triton.grpc_port}"
    exposed = {"Dockerfile.triton": ports, "Dockerfile.gateway": [gateway.port]}
    for dockerfile, expected in exposed.items():
        [words] = [words for name, *words in instructions(dockerfile) if name == "EXPOSE"]
        assert words == [str(port) for port in expected]


def test_every_variable_of_compose_is_documented() -> None:
    document = (ROOT / "docs/configuration.md").read_text()
    text = "".join((ROOT / file).read_text() for file in [COMPOSE, *OVERRIDES])
    names = variables("gateway") | variables("triton") | set(re.findall(r"\$\{(\w+)", text))
    assert len(names) > 15
    assert [name for name in sorted(names) if f"`{name}`" not in document] == []


class Reads(dict[str, str]):
    """An environment without variables; `names` has those that were read."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return default


def test_every_setting_of_a_program_reaches_its_container() -> None:
    inside = {"HOST", "PORT", "TRITON_ADMIN_KEY"}  # the image sets these
    programs: dict[str, Callable[[Reads], object]] = {
        "gateway": GatewaySettings.from_environment,
        "triton": EngineSettings.from_environment,
    }
    for service, read_settings in programs.items():
        reads = Reads()
        read_settings(reads)
        assert "LOG_FORMAT" in reads.names
        assert reads.names - inside <= variables(service)


def test_a_drawn_key_is_kept_and_private(tmp_path: Path) -> None:
    file = tmp_path / "admin-key"
    environment = {"TRITON_ADMIN_KEY_FILE": str(file)}
    key = admin_key(environment)
    assert len(key) > 40 and file.stat().st_mode & 0o777 == 0o600
    assert admin_key(environment) == key
    assert GatewaySettings.from_environment(environment).triton_admin_key == key
    file.write_text("")  # as a full disk leaves it
    assert len(admin_key(environment)) > 40


def test_a_key_in_the_environment_needs_no_file() -> None:
    assert admin_key({"TRITON_ADMIN_KEY": KEY}) == KEY


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "set TRITON_ADMIN_KEY or TRITON_ADMIN_KEY_FILE"),
        (
            {"TRITON_ADMIN_KEY_FILE": "/nowhere/key"},
            "TRITON_ADMIN_KEY_FILE='/nowhere/key' is wrong",
        ),
        ({"TRITON_ADMIN_KEY": "guess"}, "TRITON_ADMIN_KEY is wrong: set it to 16 letters"),
    ],
)
def test_a_missing_or_wrong_key_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        admin_key(environment)
