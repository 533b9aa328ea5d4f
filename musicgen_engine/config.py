"""How a model runs: the parameters of its config.pbtxt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# Parameters that describe a model, and do not say how it runs.
DESCRIPTIVE = ("checkpoint", "license", "size", "download", "channels", "takes")
BACKENDS = ("eager", "packed", "native", "graph")  # model/backend_loader.py has their code
CHOICES = {  # what the others take: as a pattern, and in words
    "device": (r"auto|cpu|cuda(:\d+)?", "auto, cpu, cuda or cuda:N"),
    "devices": ("all", "all, or device in its place"),
    "precision": (
        r"auto|float32|float16|bfloat16|int8",
        "auto, float32, float16, bfloat16 or int8",
    ),
    "backend": (f"auto|{'|'.join(BACKENDS)}", "auto, eager, packed, native or graph"),
}
MAX_SLOTS = {"cpu": 16, "cuda": 32}  # by kind of device
MAX_GPUS = 16  # no machine has more


@dataclass(frozen=True)
class ModelConfig:
    device: str = "auto"  # auto is a GPU where there is one, all is every GPU
    precision: str = "auto"  # auto is float16 on a GPU; on a CPU int8, float32 for a small model
    memory: float = 0.5  # share of the device's memory for the model's weights and slots
    backend: str = "auto"  # auto is the fastest that computes the model here

    @classmethod
    def parse(cls, parameters: Mapping[str, str], memory: float = memory) -> ModelConfig:
        """Read the parameters of a config.pbtxt; those in capitals are Triton's own. `memory` is
        the share where it has none.

        Raises:
            ValueError: it names the parameter, its value and what it takes.
        """
        own = {name: value for name, value in parameters.items() if not name.isupper()}
        known = (*DESCRIPTIVE, "memory", *CHOICES)
        if unknown := sorted(own.keys() - {*known}):
            names = ", ".join(known)
            raise ValueError(f"config.pbtxt has no parameter {unknown[0]!r}; there are {names}")
        for name, (pattern, remedy) in CHOICES.items():
            if name in own and not re.fullmatch(pattern, own[name], re.ASCII):
                raise _wrong(name, own[name], remedy)
        choices = {name: own[name] for name in CHOICES if name in own}
        if devices := choices.pop("devices", None):
            if device := choices.get("device"):
                both = f"device: {device} and devices: {devices}"
                raise ValueError(f"config.pbtxt has {both}; leave one out")
            choices["device"] = devices
        return cls(memory=_share(own.get("memory", str(memory))), **choices)


def _share(value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise _wrong("memory", value, "a share, more than 0, at most 1")
    return share


def _wrong(name: str, value: str, remedy: str) -> ValueError:
    return ValueError(f"the parameter {name} of config.pbtxt, {value!r}, is wrong: give {remedy}")
