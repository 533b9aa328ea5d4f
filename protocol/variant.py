"""A model of the repository, as the model `musicgen` lists it in its STATUS."""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Variant:
    """`checkpoint` is a repository of the hub; None is a folder of the server. `weights` is
    "bundled", "cached" or "missing"; in the gateway UNKNOWN until a server of a pool has described
    the model. `size`, such as "300M", and `channels`, "mono" or "stereo", come from its config.
    `download` is about how many bytes its first use downloads, where nothing of it is here.
    `melody`: it takes one.
    """

    name: str
    checkpoint: str | None
    license: str
    weights: str
    size: str | None = None
    download: int | None = None
    channels: str | None = None
    melody: bool = False
