"""The Triton contract: the inputs and outputs of a variant. docs/triton.md explains them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.errors import InvalidField
from protocol.fields import Array, Field
from protocol.request import FIELDS, GenerationRequest
from protocol.section import Sections

Tensor = dict[str, Any]  # as a model's configuration describes it
DTYPES: dict[str, Any] = {
    "STRING": np.object_,
    "FP32": np.float32,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}


def _tensor(name: str, data_type: str, dims: list[int]) -> Tensor:
    return {"name": name, "data_type": f"TYPE_{data_type}", "dims": dims}


def _input(name: str, data_type: str, dims: list[int]) -> Tensor:
    """Every input is optional for Triton: otherwise it refuses the request without inputs that asks
    for a status. `parse_request` names a missing one."""
    return {**_tensor(name, data_type, dims), "optional": True}


INPUTS = [_input(field.input, *field.row.tensor) for field in FIELDS.values()]
STREAM = _input("STREAM", "BOOL", [1])  # of variants
CHANGE = _input("CHANGE", "STRING", [1])  # of variants
MODEL = _input("MODEL", "STRING", [1])  # of the model `musicgen`
VARIANT_INPUTS, FRONT_INPUTS = [*INPUTS, STREAM, CHANGE], [MODEL, *INPUTS]

OUTPUTS = [
    _tensor("AUDIO", "FP32", [-1, -1]),  # [channels, samples], full scale is 1
    _tensor("CODES", "INT32", [-1, -1]),  # [codebooks, frames], ahead of AUDIO
    _tensor("CHROMA", "INT32", [-1, -1]),  # [windows, columns], of the whole song
    _tensor("TIMELINE", "STRING", [1]),  # JSON, of the whole song
    _tensor("SAMPLE_RATE", "INT32", [1]),
    _tensor("FRAMES", "INT32", [1]),  # of the whole song, 50 a second
    _tensor("SEED", "INT64", [1]),
    _tensor("REVISION", "STRING", [1]),
    _tensor("STATUS", "STRING", [1]),  # JSON
]


def to_tensors(request: GenerationRequest) -> dict[str, NDArray[Any]]:
    """The request as Triton's inputs, by their names."""
    return {
        FIELDS[name].input: to_array(value, FIELDS[name].row.tensor[0])
        for name, value in request.values().items()
    }


def from_tensors(tensors: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The values of a request by the names of its table; `parse_request` checks them.

    Raises InvalidField for a text that is not UTF-8.
    """
    return {
        name: _value(field, tensors[field.input])
        for name, field in FIELDS.items()
        if field.input in tensors
    }


def to_array(value: Any, data_type: str) -> NDArray[Any]:
    """An array as it is; a text or number as an array of one element."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, list):
        value = json.dumps(value)
    return np.array([value.encode() if isinstance(value, str) else value], DTYPES[data_type])


def _value(field: Field, array: NDArray[Any]) -> Any:
    if isinstance(field.row, Array):
        return array
    if isinstance(field.row, Sections):
        return from_json(field.name, bytes(array[0]))
    data_type, _dims = field.row.tensor
    if data_type == "FP32":  # the decimal that the caller wrote: 0.01 is less in float32
        return float(str(array[0]))
    if data_type != "STRING":
        return array[0].item()
    try:
        return bytes(array[0]).decode()
    except UnicodeDecodeError:
        problem = "is not UTF-8; encode it as UTF-8"
        raise InvalidField.of_field(field.name, problem) from None


def from_json(name: str, text: bytes) -> Any:
    try:
        return json.loads(text.decode())
    except (ValueError, RecursionError):
        raise InvalidField.of_field(name, "is not JSON in UTF-8; send JSON") from None
