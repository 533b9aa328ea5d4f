"""The separator as the engine sees it: a process for each job, killed when nobody needs it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from protocol.constants import Samples
from protocol.errors import Cancelled, GenerationFailed, InvalidField

PROJECT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "musicgen_engine.core.separator")
TIMEOUT = 900.0  # seconds; a minute of audio takes two minutes of a core
POLL = 0.2  # seconds
INSTEAD = "or send separate: false, and audio of the melody alone"

log = logging.getLogger("engine")


class SeparatorProcess:
    """`weights` is None where they are not here."""

    def __init__(self, weights: Path | None, command: Sequence[str] = COMMAND) -> None:
        self._weights = weights
        self._command = command

    def check(self) -> None:
        """Raises InvalidField: it says what is missing here."""
        if find_spec("demucs") is None:
            raise _unusable("demucs is not installed here; install it")
        if self._weights is None:
            raise _unusable(
                "the separator's weights are not here; download them with make weights MODEL=…"
            )

    def separate(
        self, mix: Samples, wanted: Callable[[], bool], timeout: float = TIMEOUT
    ) -> Samples:
        """Take the melody out of a mix: [channels, samples] → [1, samples], at
        32 kHz.

        `wanted` is asked often; the job ends when it is no more.

        Raises:
            InvalidField: the separator cannot be used.
            GenerationFailed: its process ended, or took too long.
            Cancelled: the melody is no longer wanted.
        """
        self.check()
        deadline = time.monotonic() + timeout
        with os.fdopen(os.memfd_create("mix"), "w+b") as file:
            file.write(np.ascontiguousarray(mix, np.float32).data)
            file.seek(0)
            process = subprocess.Popen(
                [*self._command, str(self._weights), str(len(mix)), str(os.getpid())],
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={},  # no secrets
                cwd=PROJECT,
            )
        with process:
            while True:
                try:
                    output, errors = process.communicate(timeout=POLL)
                    break
                except subprocess.TimeoutExpired:
                    if not wanted() or time.monotonic() > deadline:
                        process.kill()
        if not wanted():
            raise Cancelled("the request was cancelled")
        if process.returncode:
            text = errors[-2_000:].decode(errors="replace")
            log.error("the separator ended (%d): %s", process.returncode, text)
            problem = "the melody could not be taken out of its mix; try again"
            raise GenerationFailed(f"{problem}, {INSTEAD}")
        line, _, samples = output.partition(b"\n")
        if problem := json.loads(line)["problem"]:
            raise _unusable(f"the separator's file {problem}; get it again")
        melody: Samples = np.frombuffer(samples, np.float32)[None]
        return melody


def _unusable(problem: str) -> InvalidField:
    return InvalidField.of_field("separate", f"is true, and {problem}, {INSTEAD}")
