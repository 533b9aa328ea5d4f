"""The whole service as it runs: supervisor, tritonserver and gateway, with musicgen-tiny."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import Any

import pytest

import kernels
from tests.browser import chromium
from tests.fake_hub import FakeHub

TESTS = Path(__file__).parent
ROOT = TESTS.parent
TIMEOUT = 120.0  # seconds after which a test gives up; far beyond what a slow machine needs
ADMIN_KEY = "the-key-of-the-tests"  # of Triton's model control
ADMIN = {"admin-key": ADMIN_KEY}  # the key as a header over HTTP
NOT_BUILT = "the native code is not built: run `python -m kernels.build`"
needs_native = pytest.mark.skipif(kernels.library() is None, reason=NOT_BUILT)

# In the background and under nohup these are ignored, and the services of the tests would inherit
# that. A handler is not inherited.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

LONG = {"browser", "musicgen_engine", "stack"}  # folders whose files take long


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first: each process of xdist takes the next file when it has finished one,
    so short files at the end let all processes end together."""
    items.sort(key=lambda item: item.path.relative_to(TESTS).parts[0] not in LONG)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if chromium.MISSING in str(report.longrepr)
    ]
    if skipped:
        terminalreporter.write_sep("!", "THE PAGE WAS NOT TESTED", red=True, bold=True)
        terminalreporter.line(f"{len(skipped)} browser tests skipped: {chromium.MISSING}")


def free_ports(count: int) -> list[int]:
    """Below those that the system gives to clients: a connection of another test may take one."""
    ports: set[int] = set()
    while len(ports) < count:
        port = SystemRandom().randrange(20_000, 32_768)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.add(port)
    return [*ports]


def listen_at_ipv6(port: int = 0) -> socket.socket:
    """Skip where the machine has no IPv6."""
    try:
        return socket.create_server(("::1", port), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")


def clean_environment() -> dict[str, str]:
    """The environment without the variables that change the service."""
    ours = re.compile(
        "HF_|MAX_|OTEL_|MEMORY_SHARE|LOAD_MODELS|LOG_FORMAT|AUDIOCRAFT_|DEFAULT_MODEL|API_KEYS|CORS_|TRITON_ADMIN|.*_TIMEOUT$|.*_proxy$",
        re.IGNORECASE,
    )
    return {name: value for name, value in os.environ.items() if not ours.match(name)}


@contextmanager
def staying_here() -> Iterator[None]:
    """Restore the working directory, which loading a model changes."""
    home = Path.cwd()
    try:
        yield
    finally:
        os.chdir(home)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
    """Fixtures that outlive a test, such as a loaded model, leave the working directory alone."""
    if fixturedef.scope == "function":
        return (yield)
    with staying_here():
        return (yield)


def until(condition: Callable[[], Any], timeout: float = TIMEOUT) -> Any:
    """Wait until `condition` returns a true value, and return it."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not true within {timeout:g} s"
        time.sleep(0.05)
    return result


async def eventually(condition: Callable[[], Awaitable[Any]], timeout: float = TIMEOUT) -> None:
    """Wait until `condition` returns a true value."""
    deadline = time.monotonic() + timeout
    while not await condition():
        assert time.monotonic() < deadline, f"not true within {timeout:g} s"
        await asyncio.sleep(0.05)


def children() -> dict[int, list[int]]:
    """The running processes by their parent."""
    found: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, *_ = stat.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if state != b"Z":
            found.setdefault(int(parent), []).append(int(stat.parent.name))
    return found


def process_name(pid: int) -> str | None:
    """The name of a process as ps shows it; None when the process has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return None


def descendants(pid: int) -> dict[int, str]:
    """All processes below `pid`, with their command lines."""
    processes = children()
    found: dict[int, str] = {}
    todo = list(processes.get(pid, []))
    while todo:
        child = todo.pop()
        try:
            line = Path(f"/proc/{child}/cmdline").read_text(errors="replace").replace("\0", " ")
        except OSError:
            continue
        found[child] = line
        todo += processes.get(child, [])
    return found


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def with_shared_memory(megabytes: int) -> tuple[str, ...]:
    """A command that gives another a small /dev/shm. Skip the test where that is forbidden."""
    mount = f'mount -t tmpfs -o size={megabytes}m tmpfs /dev/shm && exec "$@"'
    prefix = ("unshare", "-Urm", "sh", "-c", mount, "sh")
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets no user mount a file system")
    return prefix


@dataclass
class Stack:
    """A running `make serve`, on ports of its own; with another `program`, Triton's container or
    the gateway alone."""

    repository: Path
    environment: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()  # a command that runs the service
    program: str = "supervisor"

    def __post_init__(self) -> None:
        self.port, self.triton_http, self.triton_grpc, self.triton_metrics = free_ports(4)
        self.url = f"http://localhost:{self.port}"
        self.log = self.repository.parent / f"log-{self.port}"
        ports = {
            "PORT": self.port,
            "TRITON_HTTP_PORT": self.triton_http,
            "TRITON_GRPC_PORT": self.triton_grpc,
            "TRITON_METRICS_PORT": self.triton_metrics,
        }
        environment = {
            **clean_environment(),
            **{name: str(port) for name, port in ports.items()},
            "MODEL_REPOSITORY": str(self.repository),
            "TRITON_ADMIN_KEY": ADMIN_KEY,
            "PYTHONUNBUFFERED": "1",
            **self.environment,
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "supervisor/tether.py", str(os.getpid())),  # ends with pytest
                    *self.prefix,
                    *(sys.executable, "-m", self.program),
                ],
                cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return self.get("/readyz")[0] == 200

        until(ready)

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON of a GET; the status is 0 where no server answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=20) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, None

    def model(self, name: str) -> dict[str, Any]:
        """The model's entry in /models."""
        models = self.get("/models")[1]["models"]
        return next(model for model in models if model["id"] == name)

    def pid(self, *words: str) -> int | None:
        """The process of this stack whose command line holds all `words`."""
        for pid, line in descendants(self.process.pid).items():
            if all(word in line for word in words):
                return pid
        return None

    def triton(self) -> int:
        """The process of tritonserver, once it is there."""
        return int(until(lambda: self.pid("tritonserver", "--model-repository")))

    def gateway(self) -> int:
        """The process of the gateway, once it is there."""
        return int(until(lambda: self.pid("-m gateway")))

    def stub(self, model: str = "musicgen-tiny") -> int:
        """The process in which Triton runs the model, once it is there."""
        return int(until(lambda: self.pid("triton_python_backend_stub", model)))

    def engine(self, model: str = "musicgen-tiny") -> int:
        """The engine process of the model, once it is there; it bears the model's name."""

        def named() -> int | None:
            below = descendants(self.process.pid)
            return next((pid for pid in below if process_name(pid) == model[:15]), None)

        return int(until(named))

    def stop(self) -> None:
        """Stop the service with SIGTERM, and check that no process of it remains."""
        family = descendants(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(TIMEOUT)
        left = {pid: line for pid, line in family.items() if not gone(pid)}
        assert not left


@contextmanager
def serving(repository: Path, **environment: str) -> Iterator[Stack]:
    """The whole service, once it is ready."""
    stack = Stack(repository, environment)
    try:
        stack.wait_ready()
        yield stack
    finally:
        stack.stop()


def repository_with(folder: Path, *names: str) -> Path:
    """A model repository with links to `musicgen` and the named models of the project."""
    folder.mkdir(parents=True)
    for name in ("musicgen", *names):
        (folder / name).symlink_to(ROOT / "model_repository" / name)
    return folder


@pytest.fixture(scope="session")
def stereo_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint in stereo, with random weights."""
    folder = tmp_path_factory.mktemp("stereo") / "checkpoint"
    command = [sys.executable, "-m", "training.random_checkpoint", str(folder), "--channels", "2"]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="session")
def hub(stereo_checkpoint: Path) -> Iterator[FakeHub]:
    """A Hugging Face hub on loopback; its musicgen-stereo-small is the small stereo checkpoint."""
    repositories = {
        "facebook/musicgen-stereo-small": stereo_checkpoint,
        "t5-small": stereo_checkpoint / "t5-small",
    }
    with FakeHub(repositories) as hub:
        yield hub


@pytest.fixture(scope="session")
def stack(
    tmp_path_factory: pytest.TempPathFactory, stereo_checkpoint: Path, hub: FakeHub
) -> Iterator[Stack]:
    """The service of most tests: the included models, a checkpoint in a folder, and a hub."""
    folder = tmp_path_factory.mktemp("stack")
    names = ["musicgen-tiny", "musicgen-tiny-melody", "musicgen-small", "musicgen-stereo-small"]
    repository = repository_with(folder / "models", *names)
    mine = repository / "my-music"
    shutil.copytree(stereo_checkpoint, mine / "1")
    tiny = repository / "musicgen-tiny"
    shutil.copy(tiny / "config.pbtxt", mine)
    shutil.copy(tiny / "1" / "model.py", mine / "1")
    environment = {**hub.environment(folder), "MAX_LOADED_MODELS": "2", "MAX_WAIT": "3600"}
    environment["LOG_FORMAT"] = "json"
    stack = Stack(repository, environment)
    try:
        stack.wait_ready()
        yield stack
    finally:
        stack.stop()
        print(stack.log.read_text()[-20_000:])


@pytest.fixture(scope="session")
def stack_url(stack: Stack) -> str:
    return stack.url
