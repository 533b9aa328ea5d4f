"""The whole service on ports of its own, as the tests run it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from bench.process import SampledProcess
from tests.conftest import Stack, descendants, process_name, repository_with, until
from tests.prometheus import total

MODEL = "musicgen-tiny"
STUB = "triton_python_backend_stub"
# Parts of the processes' command lines.
PARTS = {
    "gateway": ("-m gateway",),
    "tritonserver": ("tritonserver", "--model-repository"),
    "front": (STUB, "/musicgen/"),
    "stub": (STUB, f"/{MODEL}/"),
}


@contextmanager
def running() -> Iterator[Stack]:
    """The service with musicgen-tiny alone."""
    with (
        TemporaryDirectory() as folder,
        serving(repository_with(Path(folder, "models"), MODEL)) as stack,
    ):
        yield stack


@contextmanager
def serving(repository: Path, **environment: str) -> Iterator[Stack]:
    stack = Stack(repository, environment)
    try:
        stack.wait_ready()
        yield stack
    finally:
        stack.stop()


def process(stack: Stack, name: str) -> SampledProcess:
    """One of PARTS. Waits for it: it may have died."""
    return SampledProcess(int(until(lambda: find(stack, name))))


def find(stack: Stack, name: str) -> int | None:
    """The process id; an engine bears its model's name."""
    for pid, line in descendants(stack.process.pid).items():
        if name == "engine":
            if process_name(pid) == MODEL:
                return pid
        elif all(word in line for word in PARTS[name]):
            return pid
    return None


def metric(page: str, name: str) -> int:
    """The sum of a metric over all its labels; `page` is the address that Prometheus reads."""
    with urlopen(page) as answer:
        return round(total(answer.read().decode(), name))
