"""The whole supervisor, with a fake tritonserver on PATH that behaves as badly as possible."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor import shared_memory
from supervisor.__main__ import program_environment
from supervisor.settings import PROJECT, TritonSettings
from supervisor.tritonserver import GPU
from tests.conftest import TIMEOUT, descendants, free_ports, with_shared_memory
from tests.supervisor.test_process import alive

# Leaves a file in /dev/shm and a child behind, and ignores SIGTERM.
TRITONSERVER = """#!{python}
import os, pathlib, re, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
prefix = re.search("shm-region-prefix-name=(\\\\S+)", " ".join(sys.argv)).group(1)
pathlib.Path("/dev/shm", prefix + "stub").touch()
child = subprocess.Popen(["sleep", "60"])
with open({pids!r}, "a") as pids:
    pids.write(f"{{os.getpid()}} {{child.pid}}\\n")
for line in ("CudaDriverHelper has not been initialized", "an error"):
    print(line, file=sys.stderr, flush=True)
time.sleep(60)
"""


class Service:
    def __init__(self, folder: Path, ports: list[int], *prefix: str) -> None:
        self._pids = folder / "pids"
        binary = folder / "tritonserver"
        binary.write_text(TRITONSERVER.format(python=sys.executable, pids=str(self._pids)))
        binary.chmod(0o755)
        variables = ("PORT", "TRITON_HTTP_PORT", "TRITON_GRPC_PORT", "TRITON_METRICS_PORT")
        self.environment = {
            **os.environ,
            "PATH": f"{folder}:{os.environ['PATH']}",
            **{name: str(port) for name, port in zip(variables, ports, strict=True)},
        }
        self.process = self.run(*prefix)

    def run(self, *prefix: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "supervisor"],
            cwd=PROJECT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def pids(self) -> list[int]:
        """The server and its child, of every start so far."""
        text = self._pids.read_text() if self._pids.exists() else ""
        return [int(pid) for pid in text.split()]

    def files(self) -> list[Path]:
        start = shared_memory.NAME.format(f"{self.process.pid}-*")
        return list(shared_memory.FOLDER.glob(start + "*"))

    def end(self) -> str:
        """Waits for the supervisor to end; returns its output."""
        output, _ = self.process.communicate(timeout=TIMEOUT)
        return output


@pytest.fixture
def service(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    """A parameter is a command that starts the supervisor."""
    prefix = [request.param] if hasattr(request, "param") else []
    service = Service(tmp_path, free_ports(4), *prefix)
    yield service
    service.process.kill()
    for pid in left(service):
        with suppress(ProcessLookupError):  # the process has just ended
            os.kill(pid, signal.SIGKILL)
    service.process.communicate()
    shared_memory.clean()


def left(service: Service) -> list[int]:
    return [pid for pid in service.pids() if alive(pid)]


def until(condition: Callable[[], object], seconds: float = TIMEOUT) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def test_ctrl_c_ends_everything(service: Service) -> None:
    until(service.pids)
    service.process.send_signal(signal.SIGINT)
    lines = service.end().splitlines()
    assert service.process.returncode == 0
    assert lines[-1] == "service: stopped"
    assert "service: Triton does not stop; killing it" in lines
    assert "an error" in lines
    assert GPU.exists() or not any("CudaDriverHelper" in line for line in lines)
    assert left(service) == []
    assert service.files() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_ctrl_c_ends_everything_at_once(service: Service, number: signal.Signals) -> None:
    until(service.pids)
    service.process.send_signal(number)
    output = service.process.stdout
    assert output and any("stopping" in line for line in output)
    service.process.send_signal(signal.SIGINT)
    assert "killing it" not in output.read()  # which comes after the grace
    service.process.wait(TIMEOUT)
    assert left(service) == []
    assert service.files() == []


@pytest.mark.parametrize("service", ["nohup"], indirect=True)
def test_a_hangup_does_not_end_a_service_under_nohup(service: Service) -> None:
    until(service.pids)
    service.process.send_signal(signal.SIGHUP)
    os.kill(service.pids()[0], signal.SIGKILL)
    until(lambda: len(service.pids()) == 4)  # it goes on


def test_a_dead_triton_is_replaced_and_leaves_nothing(service: Service) -> None:
    until(lambda: service.pids() and service.files())
    server, child = service.pids()
    os.kill(server, signal.SIGKILL)
    until(lambda: not service.files())
    assert not alive(child)
    until(lambda: len(service.pids()) == 4)


def test_only_the_gateway_has_the_drawn_key_to_triton(service: Service) -> None:
    until(service.pids)
    command = Path(f"/proc/{service.pids()[0]}/cmdline").read_text()
    (key,) = set(re.findall(r"admin-key=([\w-]{43})\0", command))
    assert command.count(key) == 2  # for HTTP and for gRPC

    def gateway_environments() -> list[str]:
        lines = descendants(service.process.pid).items()
        pids = [pid for pid, line in lines if line.endswith("-m gateway ") and "tether" not in line]
        return [Path(f"/proc/{pid}/environ").read_text() for pid in pids]

    until(gateway_environments)
    assert f"TRITON_ADMIN_KEY={key}\0" in gateway_environments()[0]
    assert key not in Path(f"/proc/{service.pids()[0]}/environ").read_text()


@pytest.mark.parametrize("variable", ["API_KEYS_FILE", "TRITON_TLS"])
def test_a_path_is_relative_to_where_the_service_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "secret")
    environment = program_environment(TritonSettings(), "x")
    assert environment[variable] == str(tmp_path / "secret")


def test_a_taken_port_gives_one_line_and_exit_code_1(service: Service) -> None:
    port = int(service.environment["TRITON_GRPC_PORT"])
    until(service.pids)
    service.environment["PORT"] = str(*free_ports(1))  # the first one's gateway has its own
    with socket.create_server(("127.0.0.1", port)):
        second = service.run()
        output, _ = second.communicate(timeout=TIMEOUT)
    assert second.returncode == 1
    assert output == (
        f"service: port {port} is taken: stop what listens there or choose another "
        "with TRITON_GRPC_PORT=...\n"
    )


def test_too_little_shared_memory_gives_one_line_and_exit_code_1() -> None:
    done = subprocess.run(
        [*with_shared_memory(4), sys.executable, "-m", "supervisor"],
        cwd=PROJECT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(
        r"service: /dev/shm has 4 MB left, but Triton needs 16 MB .* --shm-size=1g\n", done.stderr
    )


@pytest.mark.parametrize("setting", ["MAX_DURATION=soon", "MAX_QUEUE=-1", "LOAD_TIMEOUT=0"])
def test_a_wrong_setting_of_any_part_gives_one_line(setting: str) -> None:
    name, _, value = setting.partition("=")
    done = subprocess.run(
        [sys.executable, "-m", "supervisor"],
        cwd=PROJECT, env={**os.environ, name: value},
        capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = (done.stdout + done.stderr).splitlines()
    assert name in line
    assert value in line


def test_a_service_with_its_own_triton_has_no_pools() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "supervisor"],
        cwd=PROJECT, env={**os.environ, "TRITON_POOLS": "musicgen-tiny=pods:8101"},
        capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("service: TRITON_POOLS is for a gateway alone: unset it")
