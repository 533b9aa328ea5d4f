"""The variants in the model repository, read from their folders."""

from __future__ import annotations

import compileall
import logging
import os
import re
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from musicgen_engine.config_file import read_parameters
from musicgen_engine.hub import is_cached, resolve
from protocol.variant import Variant

FRONT = "musicgen"
NAME = re.compile(r"\w[\w.-]*", re.ASCII)  # Triton gives the name to a shell

log = logging.getLogger("musicgen")


class Repository:
    """The variants in `folder`. A folder that cannot be used is left out, and its reason logged
    once. The others get links in the folder `links`, where Triton finds them."""

    def __init__(self, folder: Path, links: Path | None = None) -> None:
        self._folder = folder
        self._links = links
        self._left_out: dict[str, str] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        return [variant.name for variant in self.variants()]

    def catalogue(self) -> dict[str, Any]:
        return {"models": [asdict(variant) for variant in self.variants()]}

    def variants(self) -> list[Variant]:
        """In the order of their names."""
        variants, left_out = [], {}
        for folder in filter(_is_meant_as_variant, sorted(self._folder.iterdir())):
            try:
                variants.append(_variant(folder))
            except (ValueError, OSError) as error:
                left_out[folder.name] = str(error)
        with self._lock:
            for name, reason in left_out.items() - self._left_out.items():
                log.error("%r is left out of the models: %s", name, reason)
            self._left_out = left_out
            if self._links:
                self._link({variant.name for variant in variants}, self._links)
        return variants

    def _link(self, names: set[str], links: Path) -> None:
        linked = {link.name for link in links.iterdir()} - {FRONT}
        for name in linked - names:
            (links / name).unlink()
        for name in names - linked:
            link(self._folder / name, links)


def link(model: Path, links: Path) -> None:
    """Show Triton the model's folder."""
    # Else Python writes it into the folder later, and Triton takes the model for a new one.
    compileall.compile_file(model / "1" / "model.py", quiet=2)
    (links / model.name).symlink_to(model)


def _is_meant_as_variant(folder: Path) -> bool:
    """Whether it has a config.pbtxt, or is a link to nothing."""
    return folder.name != FRONT and (
        not folder.exists() or os.path.lexists(folder / "config.pbtxt")
    )


def _variant(folder: Path) -> Variant:
    """Raises ValueError or OSError, which say why the folder cannot be used."""
    if not folder.exists():
        raise ValueError("it is a link to nothing")
    if not NAME.fullmatch(folder.name):
        raise ValueError("a name has only letters, digits, points, dashes and underscores")
    parameters = read_parameters(folder)
    checkpoint = resolve(parameters.get("checkpoint") or None, folder / "1")
    return Variant(
        name=folder.name,
        checkpoint=None if isinstance(checkpoint, Path) else checkpoint,
        license=parameters.get("license") or "unknown",
        weights=is_cached(checkpoint),
        size=parameters.get("size") or None,
        download=_bytes(parameters.get("download", "")),
        channels=parameters.get("channels") or None,
        melody=parameters.get("takes") == "melody",
    )


def _bytes(text: str) -> int | None:
    """Raises ValueError, which says why the parameter cannot be used."""
    if text and not text.isdecimal():
        raise ValueError(f"its parameter download is {text!r}; give a whole number of bytes")
    return int(text) if text else None
