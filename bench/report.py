"""The output of a benchmark: a table, row by row as they come, and the machine's name."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Table:
    """Prints each row under the names of the first one, and keeps all in `rows`."""

    def __init__(self, title: str) -> None:
        print(f"\n{title}", flush=True)
        self.rows: list[Record] = []

    def add(self, row: Record) -> None:
        if not self.rows:
            print(*(f"{name:>9}" for name in row), sep="  ")
        cells = (f"{value!s:>{max(9, len(name))}}" for name, value in row.items())
        print(*cells, sep="  ", flush=True)
        self.rows.append(row)


def hardware() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {[*models, platform.machine()][0]}"
