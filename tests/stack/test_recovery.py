"""Parts are killed; the service heals itself, and nobody waits for ever."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import aiohttp
import pytest
from tritonclient.utils import InferenceServerException

from tests.conftest import ROOT, Stack, descendants, repository_with, until
from tests.prometheus import total
from tests.stack.client import stream
from tests.stack.test_generate import GOOD, code, post, samples, song, until_busy

STUB = "triton_python_backend_stub"


@pytest.fixture(autouse=True)
def healed(stack: Stack) -> None:
    """What the test before has killed is up again: two deaths in a row are another story."""
    until(lambda: stack.get("/readyz")[0] == 200, 60)


def engine(stack: Stack) -> int:
    return int(until(lambda: stack.pid("musicgen_engine.core", "musicgen-tiny")))


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


LONG = {**GOOD, "duration": 33, "seed": 11}  # longer than a window


@pytest.fixture(scope="module")
def whole(stack: Stack) -> bytes:
    """The long song, which nothing disturbed."""
    return asyncio.run(post(stack, LONG))[2]


async def resumes(session: aiohttp.ClientSession, stack: Stack) -> float:
    """Of all models, as the gateway counts them."""
    async with session.get(f"{stack.url}/metrics") as answer:
        return total(await answer.text(), "gateway_resumes_total")


async def broken(stack: Stack, moments: Sequence[float], *words: str) -> bytes:
    """The long song, during which the process is killed whose command line holds `words`, as soon
    as so many seconds of music are here. It breaks off for certain each time."""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(180)) as session,
        session.post(f"{stack.url}/generate", json=LONG) as answer,
    ):
        assert answer.status == 200
        before = await resumes(session, stack)
        heard = b""
        for moment in moments:
            heard += await answer.content.readexactly(round(moment * 64_000) - len(heard))
            os.kill(int(until(lambda: stack.pid(*words))), signal.SIGKILL)
        heard += await answer.content.read()
        assert await resumes(session, stack) == before + len(moments)
        return heard


@pytest.mark.parametrize(
    "words",
    [("musicgen_engine.core", "musicgen-tiny"), (STUB, "musicgen-tiny")],
    ids=["engine", "stub"],
)
async def test_a_song_survives_what_makes_it_to_the_byte(
    stack: Stack, whole: bytes, words: tuple[str, ...]
) -> None:
    assert await broken(stack, [2, 20], *words) == whole


async def test_all_songs_survive_together_and_what_waits_too(stack: Stack) -> None:
    wanted = [{**GOOD, "duration": 6, "seed": seed} for seed in range(20)]
    whole = [await post(stack, body) for body in wanted[:2]]
    songs = [asyncio.create_task(post(stack, body)) for body in wanted]
    await until_busy(stack, 20)
    os.kill(engine(stack), signal.SIGKILL)
    answers = await asyncio.gather(*songs)
    for status, _, body in answers:
        assert status == 200 and samples(body).shape == (6 * 32_000, 1)
    assert [answer[2] for answer in answers[:2]] == [answer[2] for answer in whole]


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
        if pid := stack.pid("musicgen_engine.core", "musicgen-tiny"):
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


async def test_killed_servers_are_started_again(own_stack: Stack, whole: bytes) -> None:
    assert await broken(own_stack, [5], "tritonserver", "--model-repository") == whole
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
