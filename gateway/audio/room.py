"""Places in memory for the audio of clients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from protocol.errors import QueueFull


class Room:
    """`places` in all, and so many of them for one client. `use` says for errors what takes them:
    "files are being read"."""

    def __init__(self, places: int, per_client: int, use: str) -> None:
        self._places, self._per_client, self._use = places, per_client, use
        self._taken: Counter[str] = Counter()  # by client

    @contextmanager
    def place(self, client: str) -> Iterator[None]:
        """Reserve a place for the audio of one request, before the first byte of it comes.

        Raises:
            QueueFull: this client has all its places, or all are taken.
        """
        if self._taken[client] == self._per_client:
            own = f"{self._per_client} {self._use} for this key or address"
            raise QueueFull(f"{own}; ask again in 10 s.")
        if self._taken.total() == self._places:
            raise QueueFull(f"{self._places} {self._use} already; ask again in 10 s.")
        self._taken[client] += 1
        try:
            yield
        finally:
            self._taken[client] -= 1
            self._taken += Counter()  # forgets clients without places
