"""Real programs are kept running and stopped."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from supervisor.process import CHECK_INTERVAL, Process
from supervisor.settings import PROJECT
from tests.conftest import TIMEOUT

FOLDER = "import pathlib, sys; folder = pathlib.Path(sys.argv[1])\n"
LIVES = FOLDER + "(folder / 'started').touch(); import time; time.sleep(60)\n"
STUBBORN = FOLDER + "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + LIVES
# A parent, and a child that ignores SIGTERM.
CHILD = (
    "import ctypes, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "ctypes.CDLL(None).prctl(15, b'\\xff'); time.sleep(60)"  # 15: its name, here no UTF-8
)
PARENT = FOLDER + (
    "import pathlib, subprocess\n"
    f"child = subprocess.Popen([sys.executable, '-c', {CHILD!r}])\n"
    "while pathlib.Path(f'/proc/{child.pid}/comm').read_bytes() != b'\\xff\\n': pass\n"
    "(folder / 'child').write_text(str(child.pid))\n"
)


class Log(list[str]):
    def __call__(self, line: str) -> None:
        self.append(line)


@pytest.fixture
def log() -> Log:
    return Log()


@asynccontextmanager
async def running(process: Process) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(process.keep_running())
    try:
        yield task
    finally:
        process.kill()
        await task


def program(script: str, folder: Path, log: Log, grace: float = 60, **options: Any) -> Process:
    command = [sys.executable, "-c", script, str(folder)]
    return Process("program", command, os.environ, log, grace, **options)


async def until(condition: Callable[[], object], seconds: float = TIMEOUT) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    status = Path("/proc", str(pid), "status")
    return status.exists() and b"State:\tZ" not in status.read_bytes()


async def test_a_program_that_ends_is_started_again(tmp_path: Path, log: Log) -> None:
    script = FOLDER + "(folder / 'runs').open('a').write('x'); sys.exit(3)"
    async with running(program(script, tmp_path, log)):
        await until(lambda: (tmp_path / "runs").exists() and (tmp_path / "runs").stat().st_size > 1)
    assert log[1] == "program ended with exit code 3 after 0 s; starting it again in 1 s"


async def test_a_program_that_is_killed_is_started_again(tmp_path: Path, log: Log) -> None:
    async with running(program(FOLDER + "import os; os.kill(os.getpid(), 9)", tmp_path, log)):
        await until(lambda: log.count("starting program") > 1)
    assert log[1] == "program was ended by SIGKILL after 0 s; starting it again in 1 s"


async def test_the_delays_grow(tmp_path: Path, log: Log) -> None:
    async with running(program("raise SystemExit", tmp_path, log)):
        await until(lambda: len(log) >= 4)
    assert [line.split("again in ")[1] for line in log[1::2]][:2] == ["1 s", "2 s"]


async def test_a_missing_command_is_named(log: Log, capfd: pytest.CaptureFixture[str]) -> None:
    async with running(Process("nothing", ["/no/such/program"], os.environ, log)):
        await until(lambda: len(log) > 1)
    assert "cannot start /no/such/program: No such file or directory" in capfd.readouterr().err


async def test_stopping_lets_the_program_end_by_itself(tmp_path: Path, log: Log) -> None:
    script = FOLDER + (
        "import signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit((folder / 'bye').touch()))\n"
    )
    process = program(script + LIVES, tmp_path, log)
    async with running(process) as task:
        await until((tmp_path / "started").exists)
        await process.stop()
        await task
    assert (tmp_path / "bye").exists()
    assert log == ["starting program"]


async def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path, log: Log) -> None:
    process = program(STUBBORN, tmp_path, log, grace=0.5)
    async with running(process) as task:
        await until((tmp_path / "started").exists)
        await process.stop()
        await task
    assert log[-1] == "program does not stop; killing it"


async def test_a_frozen_program_is_killed(tmp_path: Path, log: Log) -> None:
    script = FOLDER + "import os, signal; (folder / 'pid').write_text(str(os.getpid()))\n"
    process = program(script + "os.kill(os.getpid(), signal.SIGSTOP)", tmp_path, log, grace=0.5)
    async with running(process) as task:
        await until((tmp_path / "pid").exists)
        await process.stop()
        await task
    assert not alive(int((tmp_path / "pid").read_text()))


async def test_a_child_does_not_outlive_the_programs_stop(tmp_path: Path, log: Log) -> None:
    process = program(PARENT + LIVES, tmp_path, log)
    async with running(process) as task:
        await until((tmp_path / "started").exists)
        await process.stop()
        await task
    assert not alive(int((tmp_path / "child").read_text()))


async def test_a_child_does_not_outlive_the_programs_death(tmp_path: Path, log: Log) -> None:
    left: list[bool] = []

    def on_exit() -> None:
        left.append(alive(int((tmp_path / "child").read_text())))

    async with running(program(PARENT, tmp_path, log, on_exit=on_exit)):
        await until(lambda: left)
    assert not any(left)


async def test_kill_is_immediate_and_final(tmp_path: Path, log: Log) -> None:
    process = program(PARENT + STUBBORN, tmp_path, log)
    async with running(process) as task:
        await until((tmp_path / "started").exists)
        process.kill()
        await task
    assert not alive(int((tmp_path / "child").read_text()))
    assert log == ["starting program"]


async def test_a_program_stopped_before_it_runs_does_not_run(tmp_path: Path, log: Log) -> None:
    process = program(LIVES, tmp_path, log)
    async with running(process) as task:
        await asyncio.sleep(0)  # the start has begun
        await process.stop()
        await task
    assert not (tmp_path / "started").exists()


async def test_a_stop_ends_the_delay(tmp_path: Path, log: Log) -> None:
    process = program("raise SystemExit", tmp_path, log)
    async with running(process) as task:
        await until(lambda: len(log) > 1)
        await process.stop()
        await task
    assert log.count("starting program") == 1


async def test_a_stopped_child_is_killed_alone(tmp_path: Path, log: Log) -> None:
    async with running(program(PARENT + LIVES, tmp_path, log)):
        await until((tmp_path / "started").exists)
        child = int((tmp_path / "child").read_text())
        os.kill(child, signal.SIGSTOP)
        await until(lambda: not alive(child))
    assert log == ["starting program", "a process of program is stopped (SIGSTOP); killing it"]


async def test_a_program_that_no_longer_answers_is_replaced(tmp_path: Path, log: Log) -> None:
    answers = iter([True, False, False])

    async def is_live() -> bool:
        return next(answers, True)

    async with running(program(STUBBORN, tmp_path, log, CHECK_INTERVAL * 2, is_live=is_live)):
        await until(lambda: log.count("starting program") > 1)
    assert log[1] == "program does not answer; killing it"
    assert log[2].startswith("program was ended by SIGKILL")


async def test_the_time_of_a_check_counts(tmp_path: Path, log: Log) -> None:
    asked = 0

    async def is_live() -> bool:
        nonlocal asked
        asked += log.count("starting program") == 1
        if asked == 1:
            return True
        await asyncio.sleep(CHECK_INTERVAL)
        return False

    async with running(program(STUBBORN, tmp_path, log, CHECK_INTERVAL * 2, is_live=is_live)):
        await until(lambda: log.count("starting program") > 1)
    assert asked == 2


async def test_a_missed_answer_costs_nothing(tmp_path: Path, log: Log) -> None:
    answers = [True, False, True, False, True]

    async def is_live() -> bool:
        return answers.pop(0) if answers else True

    async with running(program(STUBBORN, tmp_path, log, CHECK_INTERVAL * 2, is_live=is_live)):
        await until(lambda: not answers)
    assert log == ["starting program"]


async def test_a_check_that_fails_is_the_end(tmp_path: Path, log: Log) -> None:
    async def is_live() -> bool:
        raise RuntimeError("a fault")

    process = program(LIVES, tmp_path, log, is_live=is_live)
    with pytest.raises(RuntimeError, match="a fault"):
        await process.keep_running()
    assert process.pid is None


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
