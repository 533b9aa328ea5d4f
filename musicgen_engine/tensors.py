"""The Triton contract: what a variant takes and gives. The README of it is docs/triton.md."""

from __future__ import annotations

from typing import Any

Tensor = dict[str, Any]


def _tensor(name: str, data_type: str, dims: list[int]) -> Tensor:
    return {"name": name, "data_type": data_type, "dims": dims}


# One value each. Triton takes all for optional, so that a request without any can ask for the
# model's status; a song needs PROMPT and DURATION.
INPUTS = [
    {**_tensor(name, data_type, [1]), "optional": True}
    for name, data_type in [
        ("PROMPT", "TYPE_STRING"),
        ("DURATION", "TYPE_FP32"),  # seconds
        ("SEED", "TYPE_INT64"),
        ("TEMPERATURE", "TYPE_FP32"),
        ("TOP_K", "TYPE_INT32"),
        ("TOP_P", "TYPE_FP32"),
        ("CFG_COEF", "TYPE_FP32"),
    ]
]
STREAM = {**_tensor("STREAM", "TYPE_BOOL", [1]), "optional": True}
MODEL = {**_tensor("MODEL", "TYPE_STRING", [1]), "optional": True}

OUTPUTS = [
    _tensor("AUDIO", "TYPE_FP32", [-1, -1]),  # [channels, samples], full scale is 1
    _tensor("SAMPLE_RATE", "TYPE_INT32", [1]),
    _tensor("FRAMES", "TYPE_INT32", [1]),  # of the whole song, 50 a second
    _tensor("SEED", "TYPE_INT64", [1]),
    _tensor("STATUS", "TYPE_STRING", [1]),  # JSON
]
