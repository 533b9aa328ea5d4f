"""Where and how a model runs: what its config.pbtxt says of that."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# Parameters of our models that say nothing of their place.
OTHERS = ("checkpoint", "license", "size", "channels")


@dataclass(frozen=True)
class Placement:
    device: str = "auto"  # else "cpu", "cuda" or "cuda:N"; auto is a GPU where there is one
    precision: str = "auto"  # else a name of torch's; auto is float16 on a GPU, float32 on a CPU
    memory: float = 0.5  # share of the device's memory for the model's weights and slots
    packed: bool = True  # on a CPU: matrices laid out as the matrix library likes them

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Placement:
        """Reads the parameters of a config.pbtxt; those in capitals are Triton's own.

        Raises:
            ValueError: names the parameter, its value and what it takes.
        """
        given = {name: value for name, value in parameters.items() if not name.isupper()}
        if unknown := sorted(given.keys() - {*OTHERS, *READERS}):
            known = ", ".join((*OTHERS, *READERS))
            raise ValueError(f"config.pbtxt has no parameter {unknown[0]!r}; there are {known}")
        return cls(**{name: READERS[name](given[name]) for name in READERS if name in given})


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value, re.ASCII):
        raise _wrong("device", value, "auto, cpu, cuda or cuda:N")
    return value


def _precision(value: str) -> str:
    if value not in ("auto", "float32", "float16", "bfloat16"):
        raise _wrong("precision", value, "auto, float32, float16 or bfloat16")
    return value


def _memory(value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise _wrong("memory", value, "a share, more than 0, at most 1")
    return share


def _packed(value: str) -> bool:
    if value not in ("true", "false"):
        raise _wrong("packed", value, "true or false")
    return value == "true"


def _wrong(name: str, value: str, remedy: str) -> ValueError:
    return ValueError(f"the parameter {name} of config.pbtxt, {value!r}, is wrong: give {remedy}")


READERS: dict[str, Callable[[str], Any]] = {
    "device": _device,
    "precision": _precision,
    "memory": _memory,
    "packed": _packed,
}
