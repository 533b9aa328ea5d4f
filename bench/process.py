"""A running program as the kernel sees it, with all of its threads."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MB = 1024  # kB


@dataclass(frozen=True)
class SampledProcess:
    pid: int

    @property
    def _folder(self) -> Path:
        return Path("/proc", str(self.pid))

    @property
    def alive(self) -> bool:
        with suppress(FileNotFoundError, ProcessLookupError):
            return self._stat()[0] != "Z"
        return False

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far."""
        user, system = self._stat()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    @property
    def memory(self) -> int:
        """Resident memory in MB."""
        return self._status("VmRSS") // MB

    @property
    def threads(self) -> int:
        return self._status("Threads")

    @property
    def files(self) -> int:
        """Open file descriptors."""
        return len(list((self._folder / "fd").iterdir()))

    def pin(self, cores: set[int]) -> None:
        """Keep all threads, and those that they start, on these cores."""
        for thread in (self._folder / "task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)

    def _stat(self) -> list[str]:
        """The fields behind the name."""
        return (self._folder / "stat").read_text().rpartition(")")[2].split()

    def _status(self, name: str) -> int:
        for line in (self._folder / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
        raise KeyError(name)
