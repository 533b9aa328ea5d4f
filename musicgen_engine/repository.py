"""The variants that lie in the model repository, read from their folders."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from musicgen_engine.weights import is_cached, resolve

log = logging.getLogger("musicgen")


@dataclass(frozen=True)
class Variant:
    """`checkpoint` is None for weights in the folder itself; `weights` says where they are:
    "bundled", "cached" or "missing". `size` (as "300M") and `channels` ("mono" or "stereo") are as
    the config says, or None."""

    name: str
    checkpoint: str | None
    license: str
    weights: str
    size: str | None
    channels: str | None


class Repository:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def variants(self) -> list[Variant]:
        """All models that make music: every folder with a config.pbtxt, except the front's."""
        configs = sorted(self._folder.glob("*/config.pbtxt"))
        variants = (self._variant(config) for config in configs if config.parent.name != "musicgen")
        return [variant for variant in variants if variant]

    def catalogue(self) -> dict[str, Any]:
        return {"models": [asdict(variant) for variant in self.variants()]}

    def _variant(self, config: Path) -> Variant | None:
        """None for a folder that cannot be read: the others are none the worse."""
        try:
            parameters = text_format.Parse(config.read_text(), ModelConfig()).parameters
        except (text_format.ParseError, OSError, UnicodeDecodeError) as error:
            log.error("%s is left out: its config.pbtxt: %s", config.parent.name, error)
            return None
        checkpoint = parameters["checkpoint"].string_value or None
        return Variant(
            name=config.parent.name,
            checkpoint=checkpoint,
            license=parameters["license"].string_value or "unknown",
            weights=is_cached(resolve(checkpoint, config.parent / "1")),
            size=parameters["size"].string_value or None,
            channels=parameters["channels"].string_value or None,
        )
