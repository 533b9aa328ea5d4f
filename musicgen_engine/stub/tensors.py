"""Between Triton's tensors and Python's values, in Triton's stub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from typing import Any

import c_python_backend_utils as backend
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from protocol import tracing
from protocol.errors import NO_SHARED_MEMORY, InvalidField, ServiceError, SharedMemoryFull
from protocol.tensors import OUTPUTS, Tensor, to_array

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
SHARED_MEMORY = "/dev/shm"
MARGIN = 2_000_000  # bytes; Triton's pool grows by whole megabytes
DATA_TYPES = {output["name"]: output["data_type"].removeprefix("TYPE_") for output in OUTPUTS}


def declare(config: Any, inputs: list[Tensor], outputs: list[Tensor]) -> None:
    """Complete a model's configuration, so that its config.pbtxt need not repeat the contract."""
    for tensor in inputs:
        config.add_input(tensor)
    for tensor in outputs:
        config.add_output(tensor)
    config.set_max_batch_size(0)


def inputs(request: Any, declared: list[Tensor]) -> dict[str, NDArray[Any]]:
    """The tensors of a request by their names. They are of use only as long as the request.

    Raises InvalidField for a parameter: Triton's `generate` makes one of a name that is no input.
    """
    if parameters := parameters_of(request).keys() - {tracing.HEADER}:
        names = ", ".join(tensor["name"] for tensor in declared)
        unknown = min(parameters)[:100]
        raise InvalidField(f"{unknown!r} is no input; the inputs are {names}.", unknown)
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def parameters_of(request: Any) -> dict[str, str]:
    """Triton puts the header of a trace among them."""
    return {name: str(value) for name, value in json.loads(request.parameters() or "{}").items()}


def request_id(request: Any) -> str:
    """The caller's name for the request; empty where it has none, or none in UTF-8."""
    try:
        return str(request.request_id())
    except UnicodeDecodeError:
        return ""


def send(sender: Any, outputs: Sequence[Any], last: bool) -> None:
    """Send one response; the `last` one ends the request.

    Raises SharedMemoryFull before Triton finds no room: after that not even an error can be sent.
    """
    check_room(sum(output.as_numpy().nbytes for output in outputs))
    sender.send(pb_utils.InferenceResponse(list(outputs)), flags=FINAL if last else 0)


def check_room(size: int) -> None:
    """Raises SharedMemoryFull if Triton has no room for a response of `size` bytes."""
    pool, machine = backend.shared_memory.free_memory(), shutil.disk_usage(SHARED_MEMORY).free
    if size + MARGIN > max(pool, machine):
        raise SharedMemoryFull(NO_SHARED_MEMORY)


def send_error(sender: Any, error: ServiceError) -> None:
    """Send the request's last response."""
    code = getattr(pb_utils.TritonError, error.triton or "INTERNAL")
    response = pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))
    sender.send(response, flags=FINAL)


def tensor(name: str, value: Any) -> Any:
    """An array as it is; a number or text as a tensor of one element; other values as JSON."""
    if isinstance(value, dict | list):
        value = json.dumps(value)
    return pb_utils.Tensor(name, to_array(value, DATA_TYPES[name]))
