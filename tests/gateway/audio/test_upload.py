"""Decoding of uploads: in a few processes at a time, with limits."""

import asyncio
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from gateway.audio.reader import decode
from gateway.audio.upload import MAX_DECODERS, MAX_FILES, MAX_FILES_PER_CLIENT, Decoder
from protocol.errors import Internal, InvalidField, QueueFull
from tests.conftest import descendants
from tests.gateway.audio.test_reader import FILES, file, tone
from tests.gateway.test_models import until


async def test_a_process_decodes_a_file() -> None:
    decoded = await Decoder().decode(file(tone(1, channels=2), subtype="FLOAT"))
    assert decoded.warning is None and np.array_equal(decoded.samples, tone(1, channels=2).T)


@pytest.mark.parametrize("name", [path.name for path in FILES.iterdir()])
async def test_a_process_decodes_as_this_one(name: str) -> None:
    """Its limits leave all that decoding needs."""
    data = (FILES / name).read_bytes()
    decoded, expected = await Decoder().decode(data), decode(data)
    assert np.array_equal(decoded.samples, expected.samples)
    assert decoded.warning == (expected.warning and f"audio {expected.warning}")


async def test_a_process_refuses_a_file() -> None:
    assert "is silent" in await problem(Decoder(), file(0 * tone(1)))


async def test_the_process_finds_its_code_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert (await Decoder().decode(file(tone(1)))).samples.shape == (1, 32_000)


# A process that refuses its file.
REFUSES = "import json, os; print(json.dumps({{'problem': {}, 'limits': {{}}}}))"


async def problem(decoder: Decoder, data: bytes) -> str:
    """The message of the error about the file."""
    with pytest.raises(InvalidField) as raised:
        await decoder.decode(data)
    assert raised.value.field == "audio"
    return raised.value.message


def script(code: str, *arguments: str) -> Decoder:
    return Decoder([sys.executable, "-c", code, *arguments])


async def test_the_process_has_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    code = REFUSES.format("str('HF_TOKEN' in os.environ)")
    assert await problem(script(code), b"") == "audio False."


async def test_a_file_that_kills_its_process_is_refused() -> None:
    kills = f"import os; os.kill(os.getpid(), {signal.SIGSEGV})"
    assert "cannot be read" in await problem(script(kills), b"")


@pytest.mark.parametrize("megabytes", [8, 16, 32])
async def test_a_file_that_needs_too_much_memory_is_refused(megabytes: int) -> None:
    """The file has 23 MB, and some steps need a copy of its samples."""
    limited = (
        "import resource; from gateway.audio import reader; "
        "data = int(open('/proc/self/statm').read().split()[5]) * resource.getpagesize(); "
        f"reader.LIMITS[resource.RLIMIT_DATA] = data + {megabytes} * 1024**2; reader.main()"
    )
    message = await problem(script(limited), file(tone(30, 192_000, 2), 192_000))
    assert "needs over" in message or "cannot be read" in message


async def test_a_file_that_takes_too_long_is_refused() -> None:
    endless = (
        "from gateway.audio import reader; reader.MAX_CPU = 1; reader.confine()\nwhile True: 0"
    )
    assert "takes over 3 s" in await problem(script(endless), b"")


@pytest.mark.parametrize(
    "escape",
    [
        "open('/etc/passwd')",
        "open(f'/proc/{os.getppid()}/environ')",
        "socket.socket()",
        "os.pipe()",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))",
        "resource.setrlimit(resource.RLIMIT_DATA, (2**40, 2**40))",
    ],
)
async def test_a_reader_can_open_nothing(escape: str) -> None:
    code = (
        "import os, resource, socket; from gateway.audio import reader; reader.confine()\n"
        f"try: {escape}\nexcept (OSError, ValueError): {REFUSES.format(repr('is confined'))}"
    )
    assert await problem(script(code), b"") == "audio is confined."


async def test_a_reader_gets_no_new_privileges() -> None:
    code = (
        "from gateway.audio import reader; status = open('/proc/self/status'); reader.confine(); "
        + REFUSES.format("'NoNewPrivs:\t1' in status.read()")
    )
    assert await problem(script(code), b"") == "audio True."


async def test_a_failed_process_is_an_internal_error_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(Internal) as raised:
        await script("raise LookupError('a bug')").decode(b"")
    assert (raised.value.status, raised.value.field) == (500, None)
    assert "a bug" in caplog.text and "bug" not in raised.value.message


async def test_few_files_are_decoded_at_a_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = (
        "import sys, time; log = open(sys.argv[1], 'a', buffering=1); print('+', file=log); "
        "time.sleep(0.1); print('-', file=log); " + REFUSES.format("'is read'")
    )
    decoder = script(code, str(log))
    problems = await asyncio.gather(*(problem(decoder, b"") for _ in range(6)))
    assert problems == ["audio is read."] * 6
    steps = [1 if line == "+" else -1 for line in log.read_text().split()]
    assert max(np.cumsum(steps)) <= MAX_DECODERS and len(steps) == 12


async def test_a_cancelled_decoding_ends_its_process() -> None:
    def processes() -> int:
        return sum("time.sleep(60)" in line for line in descendants(os.getpid()).values())

    decoding = asyncio.create_task(script("import time; time.sleep(60)").decode(b""))
    await until(processes)
    decoding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await decoding
    await until(lambda: not processes())


def test_the_number_of_files_in_memory_is_limited() -> None:
    decoder = Decoder()
    with ExitStack() as files:
        for number in range(MAX_FILES):
            files.enter_context(decoder.room.place(f"192.0.2.{number}"))
        with pytest.raises(
            QueueFull, match=r"16 files are being read already; ask again in 10 s\.$"
        ):
            files.enter_context(decoder.room.place("192.0.2.99"))
    with decoder.room.place("192.0.2.99"):
        pass


def test_no_client_alone_takes_all_places_of_files() -> None:
    decoder = Decoder()
    with ExitStack() as files:
        for _ in range(MAX_FILES_PER_CLIENT):
            files.enter_context(decoder.room.place("192.0.2.1"))
        with pytest.raises(QueueFull, match="8 files are being read for this key or address; ask"):
            files.enter_context(decoder.room.place("192.0.2.1"))
        files.enter_context(decoder.room.place("192.0.2.2"))
