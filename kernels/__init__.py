"""The native code: its instruction sets, and where their libraries are.

`python -m kernels.build` compiles all of it once for each instruction set.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class InstructionSet:
    """`features` are the processor's, as /proc/cpuinfo names them; `options` the compiler's."""

    name: str
    features: frozenset[str]
    options: tuple[str, ...]

    @property
    def library(self) -> Path:
        return libraries() / f"musicgen-{self.name}-{digest()}.so"


@cache
def digest() -> str:
    """Of the sources. It is in the name of a library, because one of other sources may have another
    interface: no process loads it."""
    sources = sorted([*FOLDER.glob("*.cpp"), *FOLDER.glob("*.h")])
    return sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()[:12]


def libraries() -> Path:
    """The folder of the libraries; KERNELS names another one."""
    return Path(os.environ.get("KERNELS") or FOLDER / "lib")


def _instruction_set(name: str, features: str, options: str) -> InstructionSet:
    return InstructionSet(name, frozenset(features.split()), tuple(options.split()))


_AVX512VNNI = "avx512f avx512bw avx512dq avx512vl avx512_vnni avx2 fma f16c"
_AVX512VNNI_OPTIONS = "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx2 -mfma -mf16c"
INSTRUCTION_SETS = (  # the best first
    _instruction_set(
        "amx",
        f"amx_tile amx_int8 {_AVX512VNNI}",
        f"-mamx-tile -mamx-int8 {_AVX512VNNI_OPTIONS}",
    ),
    _instruction_set("avx512vnni", _AVX512VNNI, _AVX512VNNI_OPTIONS),
    _instruction_set("avxvnni", "avx_vnni avx2 fma f16c", "-mavxvnni -mavx2 -mfma -mf16c"),
    _instruction_set("avx2", "avx2 fma f16c", "-mavx2 -mfma -mf16c"),
    _instruction_set("portable", "", ""),
)


def supported() -> list[InstructionSet]:
    """Those of this processor, the best first."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    features = {word for line in lines if line.startswith("flags") for word in line.split()}
    return [one for one in INSTRUCTION_SETS if one.features <= features]


def chosen(variables: Mapping[str, str] = os.environ) -> list[InstructionSet]:
    """As `supported`, or the one that KERNEL names.

    Raises:
        ValueError: this processor has no such set; says which it has.
    """
    sets = {one.name: one for one in supported()}
    name = variables.get("KERNEL", "").strip()
    if not name:
        return [*sets.values()]
    if name not in sets:
        remedy = f"{' or '.join(sets)}, which this processor has"
        raise ValueError(f"KERNEL={name!r} is wrong: set it to {remedy}")
    return [sets[name]]


def library() -> Path | None:
    """The best library for this processor; None where it is not built of these
    sources. Raises as `chosen`."""
    return next(filter(Path.exists, (one.library for one in chosen())), None)
