"""The machine that a benchmark runs on."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {[*names, platform.machine()][0]}"
