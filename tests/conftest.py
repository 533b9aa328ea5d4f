"""The whole service, really running: tritonserver, gateway and supervisor, with musicgen-tiny."""

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
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.browser import chromium
from tests.fake_hub import FakeHub

ROOT = Path(__file__).parent.parent
START_TIMEOUT = 90  # seconds
ADMIN_KEY = "the-key-of-the-tests"  # to Triton's model control, whose header over HTTP is this:
ADMIN = {"admin-key": ADMIN_KEY}


@pytest.hookimpl(tryfirst=True)  # before xdist, which looks for the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two processes take about as long as each other, and what is killed and unloaded in one is
    not missed in the other."""
    rough = ("test_recovery", "test_loading")
    for item in items:
        group = "rough" if item.path.stem in rough else "gentle"
        item.add_marker(pytest.mark.xdist_group(group))


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
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]


def clean_environment() -> dict[str, str]:
    """The environment without what would change the service under test."""
    ours = re.compile(
        "HF_|MAX_|LOG_FORMAT|AUDIOCRAFT_|DEFAULT_MODEL|API_KEYS|CORS_|TRITON_ADMIN|.*_TIMEOUT$|.*_proxy$",
        re.IGNORECASE,
    )
    return {name: value for name, value in os.environ.items() if not ours.match(name)}


@contextmanager
def staying_here() -> Iterator[None]:
    """Loading a model changes the working directory: the engine is a process of its own, we are
    not."""
    home = Path.cwd()
    try:
        yield
    finally:
        os.chdir(home)


def until(condition: Callable[[], Any], timeout: float = 30) -> Any:
    """Waits until `condition` gives something true, and gives that."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return result


async def eventually(condition: Callable[[], Awaitable[Any]], timeout: float = 30) -> None:
    """Waits until what `condition` finds is true."""
    deadline = time.monotonic() + timeout
    while not await condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


def descendants(pid: int) -> dict[int, str]:
    """All processes below `pid`, with their command lines."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            child, rest = int(stat.parent.name), stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if rest[0] != "Z":
            parents.setdefault(int(rest[1]), []).append(child)
    found: dict[int, str] = {}
    todo = list(parents.get(pid, []))
    while todo:
        child = todo.pop()
        try:
            line = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        found[child] = line
        todo += parents.get(child, [])
    return found


@dataclass
class Stack:
    """A running `make serve`, on ports of its own."""

    repository: Path
    environment: dict[str, str] = field(default_factory=dict)

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
                    *(sys.executable, "supervisor/tether.py", str(os.getpid())),  # dies with us
                    *(sys.executable, "-m", "supervisor"),
                ],
                cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return self.get("/readyz")[0] == 200

        until(ready, START_TIMEOUT)

    def get(self, path: str) -> tuple[int, Any]:
        """Status (0: nobody answers) and JSON of a GET."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=20) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, None

    def model(self, name: str) -> dict[str, Any]:
        """A model's entry in /models."""
        models = self.get("/models")[1]["models"]
        return next(model for model in models if model["id"] == name)

    def pid(self, *words: str) -> int | None:
        """The process of this stack whose command line holds all `words`."""
        for pid, line in descendants(self.process.pid).items():
            if all(word in line for word in words):
                return pid
        return None

    def stop(self) -> float:
        """SIGTERM; gives the seconds that it took. Fails if anything is left behind."""
        family = descendants(self.process.pid)
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        took = time.monotonic() - started
        left = {pid: line for pid, line in family.items() if Path(f"/proc/{pid}").exists()}
        assert not left
        return took


def repository_with(folder: Path, *names: str) -> Path:
    """A model repository of links to some of the project's models."""
    folder.mkdir(parents=True)
    for name in ("musicgen", *names):
        (folder / name).symlink_to(ROOT / "model_repository" / name)
    return folder


@pytest.fixture(scope="session")
def stereo_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint smaller than musicgen-tiny's, with random weights, in stereo."""
    folder = tmp_path_factory.mktemp("stereo") / "checkpoint"
    command = [sys.executable, "-m", "training.random_checkpoint", str(folder), "--channels", "2"]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="session")
def hub(stereo_checkpoint: Path) -> Iterator[FakeHub]:
    """A Hugging Face hub on loopback whose musicgen-stereo-small is our small stereo checkpoint."""
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
    """The service as most tests use it: musicgen-tiny, a checkpoint of one's own, and a hub."""
    folder = tmp_path_factory.mktemp("stack")
    names = ["musicgen-tiny", "musicgen-small", "musicgen-stereo-small"]
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
        took = stack.stop()
        print(stack.log.read_text()[-20_000:])
    assert took < 15


@pytest.fixture(scope="session")
def stack_url(stack: Stack) -> str:
    return stack.url
