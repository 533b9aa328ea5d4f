"""The Triton contract: what a variant takes and gives. The README of it is docs/triton.md."""

from __future__ import annotations

from typing import Any

Tensor = dict[str, Any]


def _tensor(name: str, data_type: str, dims: list[int]) -> Tensor:
    return {"name": name, "data_type": data_type, "dims": dims}


def _input(name: str, data_type: str, dims: list[int]) -> Tensor:
    """Triton takes all for optional, so that a request without any can ask for the model's status;
    a song needs PROMPT and DURATION."""
    return {**_tensor(name, data_type, dims), "optional": True}


INPUTS = [
    _input("PROMPT", "TYPE_STRING", [1]),
    _input("DURATION", "TYPE_FP32", [1]),  # seconds
    _input("SEED", "TYPE_INT64", [1]),
    _input("TEMPERATURE", "TYPE_FP32", [1]),
    _input("TOP_K", "TYPE_INT32", [1]),
    _input("TOP_P", "TYPE_FP32", [1]),
    _input("CFG_COEF", "TYPE_FP32", [1]),
    _input("EXTEND_STRIDE", "TYPE_FP32", [1]),  # seconds
    _input("PROMPT_AUDIO", "TYPE_FP32", [-1, -1]),  # [channels, samples] that the song begins with
    _input("PROMPT_SAMPLE_RATE", "TYPE_INT32", [1]),
    _input("CODES", "TYPE_INT32", [-1, -1]),  # [codebooks, frames] that the caller holds
    _input("START", "TYPE_INT64", [1]),  # samples per channel that the caller has had
    _input("REVISION", "TYPE_STRING", [1]),  # of the weights that the song is to be made with
]
STREAM = _input("STREAM", "TYPE_BOOL", [1])
MODEL = _input("MODEL", "TYPE_STRING", [1])

OUTPUTS = [
    _tensor("AUDIO", "TYPE_FP32", [-1, -1]),  # [channels, samples], full scale is 1
    _tensor("CODES", "TYPE_INT32", [-1, -1]),  # [codebooks, frames], ahead of AUDIO
    _tensor("SAMPLE_RATE", "TYPE_INT32", [1]),
    _tensor("FRAMES", "TYPE_INT32", [1]),  # of the whole song, 50 a second
    _tensor("SEED", "TYPE_INT64", [1]),
    _tensor("REVISION", "TYPE_STRING", [1]),
    _tensor("STATUS", "TYPE_STRING", [1]),  # JSON
]
