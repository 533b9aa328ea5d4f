"""The variants in the model repository, read from their folders."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from musicgen_engine.hub import is_cached, resolve
from protocol.variant import Variant

log = logging.getLogger("musicgen")


class Repository:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Every folder with a config.pbtxt, except the front's."""
        folders = (config.parent.name for config in self._folder.glob("*/config.pbtxt"))
        return sorted(name for name in folders if name != "musicgen")

    def variants(self) -> list[Variant]:
        variants = map(self._variant, self.names())
        return [variant for variant in variants if variant]

    def catalogue(self) -> dict[str, Any]:
        return {"models": [asdict(variant) for variant in self.variants()]}

    def _variant(self, name: str) -> Variant | None:
        """None for a folder that cannot be read; the others are still served."""
        folder = self._folder / name
        try:
            config = (folder / "config.pbtxt").read_text()
            parameters = text_format.Parse(config, ModelConfig()).parameters
            checkpoint = parameters["checkpoint"].string_value or None
            weights = is_cached(resolve(checkpoint, folder / "1"))
        except (text_format.ParseError, OSError, UnicodeDecodeError) as error:
            log.error("%s is left out because it cannot be read: %s", name, error)
            return None
        return Variant(
            name=name,
            checkpoint=checkpoint,
            license=parameters["license"].string_value or "unknown",
            weights=weights,
            size=parameters["size"].string_value or None,
            channels=parameters["channels"].string_value or None,
        )
