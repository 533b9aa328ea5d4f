"""Who may ask, and for how many songs at a time."""

from __future__ import annotations

import hmac
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256

from gateway.errors import TooManySongs, Unauthorized

# NAME:KEY or KEY, which is a token of RFC 6750.
ENTRY = re.compile(r"(?:([\w.-]{1,64}):)?([A-Za-z0-9._~+/-]{16,}=*)", re.ASCII)
HOW = "send Authorization: Bearer KEY"


@dataclass(frozen=True)
class Key:
    """The key itself is not kept: what does not lie here is not told."""

    name: str
    digest: bytes


class Access:
    """Where there are no keys anybody may ask, and for any number of songs."""

    def __init__(self, keys: Sequence[Key], max_songs: int) -> None:
        self._keys = keys
        self._max_songs = max_songs
        self._songs: Counter[str] = Counter()

    def caller(self, authorization: str | None) -> str | None:
        """The name of the key in this header; None where nobody needs one.

        Raises `Unauthorized`. How long it takes tells nothing of the keys.
        """
        if not self._keys:
            return None
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized(f"This service asks for a key; {HOW}.")
        given = _digest(token)
        found = [key.name for key in self._keys if hmac.compare_digest(key.digest, given)]
        if not found:
            raise Unauthorized(f"This key is not known here; {HOW}.", "invalid_token")
        return found[0]

    @contextmanager
    def song(self, caller: str | None) -> Iterator[None]:
        """Inside, the caller has one song more under way. Raises `TooManySongs`."""
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
    """Keys with or without a name, apart by spaces or lines; # begins a comment.

    Raises `ValueError`, which says what is wrong with which, and not what stands there.
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


def _digest(key: str) -> bytes:
    return sha256(key.encode(errors="surrogateescape")).digest()
