"""The native code: its instruction sets, and where their libraries are.

`python -m kernels.build` compiles transformer.cpp once for each instruction set.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
LIBRARIES = Path(os.environ.get("KERNELS") or FOLDER / "lib")


@dataclass(frozen=True)
class InstructionSet:
    """`features` are the processor's, as /proc/cpuinfo names them; `options` the compiler's."""

    name: str
    features: frozenset[str]
    options: tuple[str, ...]

    @property
    def library(self) -> Path:
        return LIBRARIES / f"transformer-{self.name}.so"


def _instruction_set(name: str, features: str, options: str) -> InstructionSet:
    return InstructionSet(name, frozenset(features.split()), tuple(options.split()))


INSTRUCTION_SETS = (  # the best first
    _instruction_set(
        "avx512vnni",
        "avx512f avx512bw avx512dq avx512vl avx512_vnni avx2 fma",
        "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx2 -mfma",
    ),
    _instruction_set("avxvnni", "avx_vnni avx2 fma", "-mavxvnni -mavx2 -mfma"),
    _instruction_set("avx2", "avx2 fma", "-mavx2 -mfma"),
    _instruction_set("portable", "", ""),
)


def supported() -> list[InstructionSet]:
    """Those of this processor, the best first."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    features = {word for line in lines if line.startswith("flags") for word in line.split()}
    return [one for one in INSTRUCTION_SETS if one.features <= features]


def library() -> Path | None:
    """The library for this processor, or for the instruction set that KERNEL names; None where it
    is not built."""
    wanted = os.environ.get("KERNEL")
    built = (one.library for one in supported() if wanted in (None, "", one.name))
    return next(filter(Path.exists, built), None)
