"""Messages between a variant's stub and its engine process.

A message is a JSON object and a payload of bytes (arrays; otherwise empty). `multiprocessing`'s
connection frames them; nothing is pickled.

    stub → engine
        {"kind": "song", "id": n, "request_id": "…", "song": {…}, "codebooks": k, "channels": c}
                                                              payload: its codes, int32 [k, frames],
                                                              or its prompt's audio, float32 [c, m];
                                                              k and c are 0 where it has none
        {"kind": "cancel", "id": n}                           nobody waits for it any more
    engine → stub
        {"kind": "state", "state": "loading" | "ready" | "failed", …}   of the engine itself
        {"kind": "measures", "measures": {…}}                 see measures.py, every second
        {"kind": "status", "id": n, "status": {…}}            of a song, every second
        {"kind": "chunk", "id": n, "channels": c, "samples": m, "sample_rate": r, "codebooks": k,
         "revision": "…", "last": bool, "status": {…}}        payload: audio, float32 [c, m], then
                                                              codes, int32 [k, frames]
        {"kind": "error", "id": n, "code": "…", "message": "…"}         the song's end
"""

from __future__ import annotations

import json
import threading
from multiprocessing.connection import Connection
from typing import Any

Message = dict[str, Any]


class Channel:
    """One end of the socket pair. Any thread may send; one thread receives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, message: Message, payload: bytes = b"") -> None:
        """Raises OSError when the other process is gone."""
        with self._sending:
            self._connection.send_bytes(json.dumps(message).encode())
            self._connection.send_bytes(payload)

    def receive(self) -> tuple[Message, bytes]:
        """Waits for the next message. Raises EOFError when the other process is gone."""
        try:
            return json.loads(self._connection.recv_bytes()), self._connection.recv_bytes()
        except OSError as error:  # a reset is an end like any other
            raise EOFError from error

    def silent_for(self, seconds: float) -> bool:
        """Waits up to `seconds`; True when nothing came. Raises EOFError as `receive`."""
        try:
            return not self._connection.poll(seconds)
        except OSError as error:
            raise EOFError from error

    def close(self) -> None:
        with self._sending:
            self._connection.close()
