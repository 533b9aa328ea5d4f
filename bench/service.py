"""The whole service, running on ports of its own, as it does for the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from bench.process import Process
from tests.conftest import Stack, repository_with, until
from tests.prometheus import total

MODEL = "musicgen-tiny"
STUB = "triton_python_backend_stub"
# What their command lines hold.
PARTS = {
    "gateway": ("-m gateway",),
    "tritonserver": ("tritonserver", "--model-repository"),
    "front": (STUB, "/musicgen/"),
    "stub": (STUB, f"/{MODEL}/"),
    "engine": ("musicgen_engine.core", f"/{MODEL}/"),
}


@contextmanager
def running() -> Iterator[Stack]:
    """With musicgen-tiny."""
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


def part(stack: Stack, name: str) -> Process:
    """Waits for it: it may have died."""
    return Process(int(until(lambda: stack.pid(*PARTS[name]))))


def counted(metrics: str, name: str) -> int:
    """Of a metric over all of its labels; `metrics` is where Prometheus would read it."""
    with urlopen(metrics) as page:
        return round(total(page.read().decode(), name))
