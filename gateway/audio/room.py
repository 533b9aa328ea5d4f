"""Places in memory for the files that clients send."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from protocol.errors import QueueFull


class Room:
    """`places` in all, and so many of them for one client."""

    def __init__(self, places: int, per_client: int) -> None:
        self._places, self._per_client = places, per_client
        self._files: Counter[str] = Counter()  # by client

    @contextmanager
    def place(self, client: str) -> Iterator[None]:
        """Reserve a place for the files of one request, before the first byte comes.

        Raises:
            QueueFull: this client has all its places, or all are taken.
        """
        if self._files[client] == self._per_client:
            raise QueueFull(f"{self._per_client} files of yours are being read; ask again in 10 s")
        if self._files.total() == self._places:
            raise QueueFull(f"{self._places} files are being read already; ask again in 10 s")
        self._files[client] += 1
        try:
            yield
        finally:
            self._files[client] -= 1
            self._files += Counter()  # forgets clients without files
