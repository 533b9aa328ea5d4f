"""Between Triton's tensors and Python's values. Runs in Triton's stub only."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from protocol.errors import ServiceError
from protocol.tensors import INPUTS, OUTPUTS, Tensor

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
NUMPY_TYPES = {
    output["name"]: pb_utils.triton_string_to_numpy(output["data_type"]) for output in OUTPUTS
}
ARRAYS = {tensor["name"] for tensor in INPUTS if tensor["dims"] != [1]}


def declare(config: Any, inputs: list[Tensor], outputs: list[Tensor]) -> None:
    """Completes a model's configuration, so that its config.pbtxt need not repeat the contract."""
    for tensor in inputs:
        config.add_input(tensor)
    for tensor in outputs:
        config.add_output(tensor)
    config.set_max_batch_size(0)


def values(request: Any) -> dict[str, Any]:
    """The inputs that the request has: arrays, and the others by their one value (a numpy scalar;
    text as bytes). An array is of use only as long as the request."""
    arrays = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
    return {name: array if name in ARRAYS else array[0] for name, array in arrays.items()}


def request_id(request: Any) -> str:
    """As its caller named it; empty where it has no name, or none in UTF-8."""
    try:
        return str(request.request_id())
    except UnicodeDecodeError:
        return ""


def send(sender: Any, outputs: dict[str, Any], last: bool) -> None:
    """One response; the `last` one ends the request."""
    response = pb_utils.InferenceResponse([tensor(*output) for output in outputs.items()])
    sender.send(response, flags=FINAL if last else 0)


def send_error(sender: Any, error: ServiceError) -> None:
    """The request's last response."""
    code = getattr(pb_utils.TritonError, error.triton_code)
    response = pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))
    sender.send(response, flags=FINAL)


def tensor(name: str, value: Any) -> Any:
    """An array as it is; a number or text as a tensor of one element; a dictionary as JSON."""
    if isinstance(value, np.ndarray):
        return pb_utils.Tensor(name, value)
    if isinstance(value, dict):
        value = json.dumps(value)
    if isinstance(value, str):
        value = value.encode()
    return pb_utils.Tensor(name, np.array([value], NUMPY_TYPES[name]))
