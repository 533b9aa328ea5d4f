"""The output of a benchmark: a table, row by row as they come, and the machine's name."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Table:
    """Prints rows in Markdown under the names of the first one, and keeps all in `rows`."""

    def __init__(self, title: str) -> None:
        print(f"\n{title}\n", flush=True)
        self.rows: list[Record] = []

    def add(self, row: Record) -> None:
        widths = [max(9, len(name)) for name in row]
        lines: list[Iterable[object]] = [row.values()]
        if not self.rows:
            lines = [row, ("-" * width for width in widths), *lines]
        for cells in lines:
            padded = (f"{cell!s:>{width}}" for cell, width in zip(cells, widths, strict=True))
            print("|", " | ".join(padded), "|", flush=True)
        self.rows.append(row)


def hardware() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {[*models, platform.machine()][0]}"
