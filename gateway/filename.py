"""The name under which a browser saves a song."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

MAX_SLUG = 60


def content_disposition(model: str, prompt: str, suffix: str) -> str:
    """An attachment named after model and prompt, in ASCII and (RFC 6266) in full."""
    full = f"{model}-{_slug(prompt)}".rstrip("-")
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode()
    ascii_name = f"{_ascii(model)}-{_slug(plain)}".rstrip("-")
    return (
        f"attachment; filename=\"{ascii_name}.{suffix}\"; filename*=UTF-8''{quote(full)}.{suffix}"
    )


def _slug(text: str) -> str:
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:MAX_SLUG].strip("-")


def _ascii(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)
