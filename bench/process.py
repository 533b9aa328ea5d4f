"""A running program as the kernel sees it, with all of its threads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

MB = 1024  # kB


@dataclass(frozen=True)
class Process:
    pid: int

    @property
    def _folder(self) -> Path:
        return Path("/proc", str(self.pid))

    @property
    def alive(self) -> bool:
        return self._folder.exists()

    @property
    def cpu(self) -> float:
        """Seconds that it has computed."""
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory(self) -> int:
        """MB of it that are in memory."""
        return self._status("VmRSS") // MB

    @property
    def threads(self) -> int:
        return self._status("Threads")

    @property
    def files(self) -> int:
        """Open file descriptors."""
        return len(list((self._folder / "fd").iterdir()))

    def pin(self, cores: set[int]) -> None:
        """To these cores, with all threads that it has and will have."""
        for thread in (self._folder / "task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)

    def _status(self, name: str) -> int:
        for line in (self._folder / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
        raise KeyError(name)
