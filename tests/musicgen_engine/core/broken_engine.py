"""An engine process whose model makes numbers that are not finite.

python -m tests.musicgen_engine.core.broken_engine FOLDER CHECKPOINT CONFIG SOCKET
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from musicgen_engine.config import ModelConfig
from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.model.decoder import DecodeInput
from musicgen_engine.model.delay_pattern import Integers
from musicgen_engine.model.sampler import NOT_FINITE
from tests.musicgen_engine.core.two_engines import serve


class Broken:
    """A decoder without finite logits."""

    burst, ahead = 1, 0

    def __init__(self, codebooks: int) -> None:
        self._codebooks = codebooks

    def set_conditioning(self, *_: Any) -> Sequence[int]:
        return ()

    def set_request(self, *_: Any) -> None: ...

    def decode(self, inputs: Sequence[DecodeInput], count: int, _: Any) -> Callable[[], Integers]:
        return lambda: np.full((count, len(inputs), self._codebooks), NOT_FINITE)


def load(folder: Path, _config: ModelConfig) -> list[LoadedModel]:
    model = LoadedModel.load(folder, ModelConfig(device="cpu"))
    decoder: Any = Broken(model.pattern.codebooks)
    return [replace(model, decoder=decoder)]


if __name__ == "__main__":
    serve(load)
