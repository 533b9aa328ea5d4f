"""A socket pair between a variant's stub and its engine process.

A message is a frozen dataclass of messages.py. It crosses as JSON, with the bytes of its arrays
behind it; nothing is pickled.
"""

from __future__ import annotations

import json
import threading
from dataclasses import fields, is_dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from musicgen_engine.messages import TYPES


class Channel:
    """One end of the pair. Any thread may send; one thread receives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, message: Any) -> None:
        """Raises OSError when the other process is gone."""
        arrays: list[bytes] = []
        text = json.dumps(_encode(message, arrays)).encode()
        with self._sending:
            self._connection.send_bytes(text)
            self._connection.send_bytes(b"".join(arrays))

    def receive(self) -> Any:
        """Wait for the next message. Raises EOFError when the other process is gone."""
        try:
            text, arrays = self._connection.recv_bytes(), self._connection.recv_bytes()
        except OSError as error:  # a reset is an end like any other
            raise EOFError from error
        return _decode(text, arrays)

    def silent_for(self, seconds: float) -> bool:
        """Wait up to `seconds`; True when nothing came. Raises EOFError as `receive`."""
        try:
            return not self._connection.poll(seconds)
        except OSError as error:
            raise EOFError from error

    def close(self) -> None:
        with self._sending:
            self._connection.close()


def _encode(value: Any, arrays: list[bytes]) -> Any:
    """`value` for JSON; the bytes of its arrays go to `arrays`, in order. Tags
    begin with $, because the limits of an error have a `type`."""
    if isinstance(value, np.ndarray):
        arrays.append(value.tobytes())
        return {"$array": value.dtype.str, "shape": value.shape}
    if is_dataclass(value):
        encoded = {
            field.name: _encode(getattr(value, field.name), arrays) for field in fields(value)
        }
        return {"$type": type(value).__name__, **encoded}
    if isinstance(value, tuple):
        return {"$tuple": [_encode(one, arrays) for one in value]}
    return value


def _decode(text: bytes, arrays: bytes) -> Any:
    offset = 0

    def build(value: dict[str, Any]) -> Any:
        nonlocal offset
        if "$array" in value:
            count = int(np.prod(value["shape"], dtype=np.int64))
            array = np.frombuffer(arrays, value["$array"], count, offset)
            offset += array.nbytes
            return array.reshape(value["shape"])
        if "$tuple" in value:
            return tuple(value["$tuple"])
        if "$type" in value:
            return TYPES[value.pop("$type")](**value)
        return value

    return json.loads(text, object_hook=build)
