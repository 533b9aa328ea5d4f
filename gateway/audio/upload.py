"""The decoder of audio files that clients send, each in a process of `gateway/audio/reader.py`."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from gateway.audio import reader
from gateway.audio.reader import MAX_CPU, UNREADABLE, Audio, UnreadableFile
from gateway.audio.room import Room
from protocol.constants import MAX_PROMPT_SECONDS
from protocol.errors import Internal, InvalidField

MAX_BYTES = 32 * 1024**2
MAX_DECODERS = 2  # at a time
MAX_FILES = 16  # in memory at a time
MAX_FILES_PER_CLIENT = 8
PROJECT = Path(__file__).parent.parent.parent
# The whole environment: no secrets, and one thread, since each would take address space.
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}

log = logging.getLogger(__name__)


class Decoder:
    """Decodes a few files at a time, in processes that run `command` with the greatest length in
    seconds; other files wait."""

    def __init__(self, command: Sequence[str] = (sys.executable, "-m", reader.__name__)) -> None:
        self._command = command
        self._slots = asyncio.Semaphore(MAX_DECODERS)
        self.room = Room(MAX_FILES, MAX_FILES_PER_CLIENT, "files are being read")

    async def decode(
        self, data: bytes | bytearray, field: str = "audio", longest: float = MAX_PROMPT_SECONDS
    ) -> Audio:
        """Decode the file of this field, of at most `longest` seconds.

        Raises:
            InvalidField: it says what is wrong with the file.
        """
        try:
            async with self._slots:
                line, _, samples = (await self._run(data, longest)).partition(b"\n")
            header = json.loads(line)
            if problem := header.get("problem"):
                raise UnreadableFile(problem, header["limits"])
        except UnreadableFile as error:
            raise InvalidField.of_field(field, error.problem, **error.limits) from None
        decoded = np.frombuffer(samples, np.float32).reshape(header["channels"], -1)
        return Audio(decoded, header["warning"] and f"{field} {header['warning']}")

    async def _run(self, data: bytes | bytearray, longest: float) -> bytes:
        """The output of a process with this input."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            str(longest),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=ENVIRONMENT,
            cwd=PROJECT,
        )
        try:
            output, errors = await process.communicate(data)
            code = await process.wait()
        except BaseException:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if code == 0:
            return output
        text = errors[-2_000:].decode(errors="replace")
        if code > 0:  # an exception: our own fault
            log.error("the decoder of files failed (%d): %s", code, text)
            raise Internal("The file could not be read; the gateway's log says why.")
        log.warning("a file ended its decoder (%s): %s", signal.Signals(-code).name, text)
        slow = f"takes over {MAX_CPU} s to be read; convert it to a plain WAV"
        raise UnreadableFile(slow if code == -signal.SIGXCPU else UNREADABLE)
