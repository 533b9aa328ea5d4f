"""Parts are killed; the service heals itself, and nobody waits for ever."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tritonclient.utils import InferenceServerException

from tests.conftest import ROOT, Stack, descendants, repository_with, until
from tests.stack.test_generate import GOOD, code, post, song, until_busy
from tests.stack.test_triton import stream

STUB = "triton_python_backend_stub"


@pytest.fixture(autouse=True)
def healed(stack: Stack) -> None:
    """What the test before has killed is up again: two deaths in a row are another story."""
    until(lambda: stack.get("/readyz")[0] == 200, 60)


def engine(stack: Stack) -> int:
    return int(until(lambda: stack.pid("musicgen_engine.engine", "musicgen-tiny")))


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def test_a_killed_engine_fails_its_songs_at_once_and_serves_the_next(stack: Stack) -> None:
    await song(stack, GOOD)
    songs = [asyncio.create_task(post(stack, {**GOOD, "duration": 200})) for _ in range(3)]
    await until_busy(stack, 3)
    killed = engine(stack)
    os.kill(killed, signal.SIGKILL)
    cut = time.monotonic()
    for answer in await asyncio.gather(*songs):
        assert (answer[0], code(answer[2])[0]) == (503, "engine_unavailable")
        assert int(answer[1]["Retry-After"]) >= 1
    assert time.monotonic() - cut < 3
    assert len(await song(stack, GOOD)) == 32_000
    assert engine(stack) != killed


def test_a_killed_engine_is_unavailable_to_triton_clients_too(stack: Stack) -> None:
    os.kill(engine(stack), signal.SIGSTOP)  # so that the song is in flight for certain
    stopped = engine(stack)

    async def cut() -> object:
        answer = asyncio.create_task(
            asyncio.to_thread(stream, stack, "musicgen-tiny", {"PROMPT": "", "DURATION": 5.0})
        )
        await asyncio.sleep(1)
        os.kill(stopped, signal.SIGKILL)
        return (await answer)[0]

    error = asyncio.run(cut())
    assert isinstance(error, InferenceServerException)
    assert error.message().startswith("[engine_unavailable] ")


async def test_the_engine_dies_with_its_stub_and_the_gateway_loads_the_model_anew(
    stack: Stack,
) -> None:
    old = engine(stack)
    os.kill(int(until(lambda: stack.pid(STUB, "musicgen-tiny"))), signal.SIGKILL)
    until(lambda: gone(old), 5)
    assert len(await song(stack, GOOD)) == 32_000


async def test_an_engine_that_keeps_dying_is_seen_and_comes_back(stack: Stack) -> None:
    await song(stack, GOOD)
    deadline = time.monotonic() + 60
    while stack.model("musicgen-tiny")["state"] != "unavailable":
        assert time.monotonic() < deadline
        if pid := stack.pid("musicgen_engine.engine", "musicgen-tiny"):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    assert "SIGKILL" in stack.model("musicgen-tiny")["reason"]
    status, body = stack.get("/readyz")
    assert (status, body["error"]["code"]) == (503, "engine_unavailable")
    until(lambda: stack.get("/readyz")[0] == 200, 60)
    assert len(await song(stack, GOOD)) == 32_000


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """A service that the test may break: its supervisor is a process of the test's own."""
    stack = Stack(repository_with(tmp_path / "models", "musicgen-tiny"))
    try:
        stack.wait_ready()
        yield stack
    finally:
        if stack.process.poll() is None:
            stack.stop()


async def test_killed_servers_are_started_again(own_stack: Stack) -> None:
    triton = until(lambda: own_stack.pid("tritonserver", "--model-repository"))
    gateway = until(lambda: own_stack.pid("-m gateway"))
    os.kill(triton, signal.SIGKILL)
    until(lambda: own_stack.get("/readyz")[0] == 503)
    status, _, body = await post(own_stack, GOOD)
    assert status == 200 or (status, code(body)[0]) == (503, "triton_unavailable")
    until(lambda: own_stack.get("/readyz")[0] == 200, 60)
    os.kill(gateway, signal.SIGKILL)
    until(lambda: own_stack.pid("-m gateway") not in (None, gateway))
    until(lambda: own_stack.get("/readyz")[0] == 200)
    assert len(await song(own_stack, GOOD)) == 32_000


def test_stopping_leaves_nothing_behind_even_where_parts_hang(tmp_path: Path) -> None:
    stack = Stack(repository_with(tmp_path / "models", "musicgen-tiny"))
    stack.wait_ready()
    files = f"audiocraft-service-{stack.process.pid}-*"
    assert list(Path("/dev/shm").glob(files))
    os.kill(int(until(lambda: stack.pid(STUB, "musicgen-tiny"))), signal.SIGSTOP)
    assert stack.stop() < 15
    assert not list(Path("/dev/shm").glob(files))


def test_a_killed_supervisor_takes_everything_with_it(tmp_path: Path) -> None:
    stack = Stack(repository_with(tmp_path / "models", "musicgen-tiny"))
    stack.wait_ready()
    family = descendants(stack.process.pid)
    stack.process.kill()
    stack.process.wait()
    until(lambda: all(gone(pid) for pid in family), 15)


def test_a_port_already_taken_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "supervisor"],
            cwd=ROOT, env={**os.environ, "PORT": port}, capture_output=True, text=True, timeout=20,
        )  # fmt: skip
    assert done.returncode == 1
    (line,) = (done.stdout + done.stderr).strip().splitlines()
    assert port in line and "PORT" in line
