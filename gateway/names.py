"""Spellings of model names."""

from __future__ import annotations

from collections.abc import Collection

from gateway.errors import UnknownModel


def resolve(spelling: str, known: Collection[str]) -> str:
    """The name in `known` that `spelling` means.

    Understands the hub's ids (`facebook/musicgen-small`) and the other order in use
    (`musicgen-small-stereo` for `musicgen-stereo-small`). Raises `UnknownModel`.
    """
    name = spelling.removeprefix("facebook/")
    other = name
    if name.endswith("-stereo"):
        other = name.removesuffix("-stereo").replace("musicgen-", "musicgen-stereo-", 1)
    for candidate in (name, other):
        if candidate in known:
            return candidate
    raise UnknownModel(
        f"There is no model {spelling[:100]!r} here; choose one of {', '.join(sorted(known))}.",
        field="model",
    )
