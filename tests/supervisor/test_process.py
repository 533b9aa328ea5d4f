"""Real programs, kept running and stopped."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from supervisor.process import Process
from supervisor.settings import PROJECT

FOLDER = "import pathlib, sys; folder = pathlib.Path(sys.argv[1])\n"
LIVES = FOLDER + "(folder / 'started').touch(); import time; time.sleep(60)\n"
DEAF = FOLDER + "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + LIVES
# A parent that ends or lives, and a child that does not hear SIGTERM.
CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
PARENT = FOLDER + (
    "import subprocess\n"
    f"child = subprocess.Popen([sys.executable, '-c', {CHILD!r}])\n"
    "(folder / 'child').write_text(str(child.pid))\n"
)


class Said(list[str]):
    def __call__(self, line: str) -> None:
        self.append(line)


@pytest.fixture
def said() -> Said:
    return Said()


@asynccontextmanager
async def kept(process: Process) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(process.keep_running())
    try:
        yield task
    finally:
        process.kill()
        await task


def program(
    script: str, folder: Path, said: Said, clean: Callable[[], None] = lambda: None
) -> Process:
    command = [sys.executable, "-c", script, str(folder)]
    return Process("program", command, os.environ, said, clean)


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def seconds_of(work: Awaitable[object]) -> float:
    started = time.monotonic()
    await work
    return time.monotonic() - started


def alive(pid: int) -> bool:
    status = Path("/proc", str(pid), "status")
    return status.exists() and "State:\tZ" not in status.read_text()


async def test_a_program_that_ends_is_started_again(tmp_path: Path, said: Said) -> None:
    script = FOLDER + "(folder / 'runs').open('a').write('x'); sys.exit(3)"
    async with kept(program(script, tmp_path, said)):
        await until(lambda: (tmp_path / "runs").exists() and (tmp_path / "runs").stat().st_size > 1)
    assert said[1] == "program ended with exit code 3 after 0 s; starting it again in 1 s"


async def test_a_program_that_is_killed_is_started_again(tmp_path: Path, said: Said) -> None:
    async with kept(program(FOLDER + "import os; os.kill(os.getpid(), 9)", tmp_path, said)):
        await until(lambda: said.count("starting program") > 1)
    assert said[1] == "program was ended by SIGKILL after 0 s; starting it again in 1 s"


async def test_the_pauses_grow(tmp_path: Path, said: Said) -> None:
    async with kept(program("raise SystemExit", tmp_path, said)):
        await until(lambda: len(said) >= 4)
    assert [line.split("again in ")[1] for line in said[1::2]][:2] == ["1 s", "2 s"]


async def test_a_command_that_does_not_exist_is_named(
    said: Said, capfd: pytest.CaptureFixture[str]
) -> None:
    async with kept(Process("nothing", ["/no/such/program"], os.environ, said)):
        await until(lambda: len(said) > 1)
    assert "cannot start /no/such/program: No such file or directory" in capfd.readouterr().err


async def test_stopping_lets_the_program_end_by_itself(tmp_path: Path, said: Said) -> None:
    script = FOLDER + (
        "import signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit((folder / 'bye').touch()))\n"
    )
    process = program(script + LIVES, tmp_path, said)
    async with kept(process) as task:
        await until((tmp_path / "started").exists)
        await process.stop(grace=10)
        await task
    assert (tmp_path / "bye").exists()
    assert said == ["starting program"]


async def test_a_program_that_does_not_hear_sigterm_is_killed(tmp_path: Path, said: Said) -> None:
    process = program(DEAF, tmp_path, said)
    async with kept(process) as task:
        await until((tmp_path / "started").exists)
        assert 0.5 <= await seconds_of(process.stop(grace=0.5)) < 2
        await task
    assert said[-1] == "program does not stop; killing it"


async def test_a_program_that_is_frozen_is_killed(tmp_path: Path, said: Said) -> None:
    script = FOLDER + "import os, signal; (folder / 'pid').write_text(str(os.getpid()))\n"
    process = program(script + "os.kill(os.getpid(), signal.SIGSTOP)", tmp_path, said)
    async with kept(process) as task:
        await until((tmp_path / "pid").exists)
        await process.stop(grace=0.5)
        await task
    assert not alive(int((tmp_path / "pid").read_text()))


async def test_what_a_program_started_does_not_outlive_its_stop(tmp_path: Path, said: Said) -> None:
    process = program(PARENT + LIVES, tmp_path, said)
    async with kept(process) as task:
        await until((tmp_path / "started").exists)
        await process.stop(grace=10)
        await task
    assert not alive(int((tmp_path / "child").read_text()))


async def test_what_a_program_started_does_not_outlive_its_death(
    tmp_path: Path, said: Said
) -> None:
    left: list[bool] = []

    def clean() -> None:
        left.append(alive(int((tmp_path / "child").read_text())))

    async with kept(program(PARENT, tmp_path, said, clean)):
        await until(lambda: left)
    assert not any(left)


async def test_kill_is_immediate_and_final(tmp_path: Path, said: Said) -> None:
    process = program(PARENT + DEAF, tmp_path, said)
    async with kept(process) as task:
        await until((tmp_path / "started").exists)
        process.kill()
        assert await seconds_of(task) < 3
    assert not alive(int((tmp_path / "child").read_text()))
    assert said == ["starting program"]


async def test_a_program_stopped_before_it_runs_does_not_run(tmp_path: Path, said: Said) -> None:
    process = program(LIVES, tmp_path, said)
    async with kept(process) as task:
        await asyncio.sleep(0)  # it is being started
        await process.stop(grace=10)
        assert await seconds_of(task) < 3
    assert not (tmp_path / "started").exists()


async def test_a_pause_ends_when_the_program_is_stopped(tmp_path: Path, said: Said) -> None:
    process = program("raise SystemExit", tmp_path, said)
    async with kept(process) as task:
        await until(lambda: len(said) > 1)
        await process.stop(grace=10)
        assert await seconds_of(task) < 0.5


async def test_a_program_dies_with_its_supervisor(tmp_path: Path) -> None:
    supervisor = f"""
import asyncio, os, sys
from supervisor.process import Process
pid = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid()))"
command = [sys.executable, "-c", pid + "; import time; time.sleep(60)", {str(tmp_path / "pid")!r}]
asyncio.run(Process("program", command, os.environ, print).keep_running())
"""
    with subprocess.Popen([sys.executable, "-c", supervisor], cwd=PROJECT) as process:
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        process.send_signal(signal.SIGKILL)
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: not alive(pid))
