"""The whole service on ports of its own, as the tests run it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from tritonclient.utils import InferenceServerException

from bench.process import SampledProcess
from tests.conftest import Stack, repository_with, serving, until
from tests.prometheus import total
from tests.stack.client import model_status

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
def pool(count: int) -> Iterator[tuple[Stack, list[Stack]]]:
    """A gateway in front of so many servers of musicgen-tiny."""
    with TemporaryDirectory() as folder, ExitStack() as stacks:
        repository = repository_with(Path(folder, "models"), MODEL)
        servers = [triton(stacks, repository, MODEL) for _ in range(count)]
        addresses = ",".join(f"127.0.0.1:{server.triton_grpc}" for server in servers)
        gateway = part(stacks, repository, "gateway", TRITON_POOLS=f"{MODEL}={addresses}")
        gateway.wait_ready()
        yield gateway, servers


def triton(stacks: ExitStack, repository: Path, model: str) -> Stack:
    """Triton's container with the model."""
    return part(stacks, repository, "supervisor.container", LOAD_MODELS=model)


def part(stacks: ExitStack, repository: Path, program: str, **environment: str) -> Stack:
    """A part of the service, until `stacks` ends."""
    stack = Stack(repository, environment, program=program)
    stacks.callback(stack.stop)
    return stack


def songs(server: Stack) -> int:
    """The songs on a server; 0 where it does not answer."""
    with suppress(InferenceServerException):
        status = model_status(server, MODEL)
        return int(status["queued"] + status["running"])
    return 0


def process(stack: Stack, name: str) -> SampledProcess:
    """One of PARTS. Waits for it: it may have died."""
    if name == "engine":
        return SampledProcess(stack.engine(MODEL))
    return SampledProcess(int(until(lambda: stack.pid(*COMMANDS[name]))))


def metric(page: str, name: str, **labels: str) -> int:
    """The sum of a metric over its other labels; `page` is the address that Prometheus reads."""
    with urlopen(page) as answer:
        return round(total(answer.read().decode(), name, **labels))
