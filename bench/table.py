"""Results, row by row as they come."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]


class Table:
    """Printed under the names of the first row; `rows` keeps them all."""

    def __init__(self, title: str) -> None:
        print(f"\n{title}", flush=True)
        self.rows: list[Record] = []

    def add(self, row: Record) -> None:
        if not self.rows:
            print(*(f"{name:>9}" for name in row), sep="  ")
        print(
            *(f"{value:>{max(9, len(name))}}" for name, value in row.items()), sep="  ", flush=True
        )
        self.rows.append(row)
