"""API keys, and the number of songs that each may have in progress."""

from __future__ import annotations

import hmac
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256

from protocol.errors import TooManySongs, Unauthorized

# NAME:KEY or KEY; a key is a token of RFC 6750.
ENTRY = re.compile(r"(?:([\w.-]{1,64}):)?([A-Za-z0-9._~+/-]{16,}=*)", re.ASCII)


@dataclass(frozen=True)
class Key:
    """A key by its digest, so that no log or error can show the key itself."""

    name: str
    digest: bytes


class Access:
    """Without keys every request is allowed, with any number of songs."""

    def __init__(self, keys: Sequence[Key], max_songs: int) -> None:
        self._keys = keys
        self._max_songs = max_songs
        self._songs: Counter[str] = Counter()

    def caller(self, authorization: str | None) -> str | None:
        """The name of the key in this header; None where there are no keys.

        Raises `Unauthorized`. The time of the comparison does not depend on the keys.
        """
        if not self._keys:
            return None
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized("This service asks for a key")
        digest = _digest(token)
        found = [key.name for key in self._keys if hmac.compare_digest(key.digest, digest)]
        if not found:
            raise _unauthorized("This key is not known here", ', error="invalid_token"')
        return found[0]

    @contextmanager
    def song(self, caller: str | None) -> Iterator[None]:
        """Count one more song of the caller inside the block. Raise `TooManySongs`."""
        if caller is None:
            yield
            return
        if self._songs[caller] >= self._max_songs:
            raise TooManySongs(
                f"This key has {self._max_songs} songs under way, and may have no more at a time; "
                "ask again when one has ended."
            )
        self._songs[caller] += 1
        try:
            yield
        finally:
            self._songs[caller] -= 1


def read_keys(text: str) -> tuple[Key, ...]:
    """Read keys with or without names, separated by spaces or lines; # begins a comment.

    Raises `ValueError`, which gives the number of the wrong key and not the key.
    """
    entries = [ENTRY.fullmatch(word) for word in re.sub("#.*", "", text).split()]
    if not entries:
        raise ValueError("there is no key in it; give one, or do not set it")
    keys = []
    for number, entry in enumerate(entries, 1):
        if entry is None:
            raise ValueError(
                f"key {number} is wrong; give KEY or NAME:KEY, a key of 16 letters and digits or "
                "more (-._~+/ too)"
            )
        keys.append(Key(entry[1] or f"key-{number}", _digest(entry[2])))
    for number, key in enumerate(keys, 1):
        if any(key.name == other.name or key.digest == other.digest for other in keys[number:]):
            raise ValueError(f"key {number} or its name is there twice; give each once")
    return tuple(keys)


def _unauthorized(problem: str, error: str = "") -> Unauthorized:
    """The error with the challenge of RFC 6750."""
    headers = {"WWW-Authenticate": f'Bearer realm="audiocraft-service"{error}'}
    return Unauthorized(f"{problem}; send Authorization: Bearer KEY.", headers=headers)


def _digest(key: str) -> bytes:
    return sha256(key.encode(errors="surrogateescape")).digest()
