"""The whole service on ports of its own, as the tests run it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from bench.process import SampledProcess
from tests.conftest import Stack, repository_with, until
from tests.prometheus import total

MODEL = "musicgen-tiny"
STUB = "triton_python_backend_stub"
# Words of the command lines. The engine is forked, so that it has its name alone.
COMMANDS = {
    "gateway": ("-m gateway",),
    "tritonserver": ("tritonserver", "--model-repository"),
    "front": (STUB, "/musicgen/"),
    "stub": (STUB, f"/{MODEL}/"),
    "fork server": ("musicgen_engine.core.fork_server",),
}
PARTS = (*COMMANDS, "engine")


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
    if name == "engine":
        return SampledProcess(stack.engine(MODEL))
    return SampledProcess(int(until(lambda: stack.pid(*COMMANDS[name]))))


def metric(page: str, name: str) -> int:
    """The sum of a metric over all its labels; `page` is the address that Prometheus reads."""
    with urlopen(page) as answer:
        return round(total(answer.read().decode(), name))
