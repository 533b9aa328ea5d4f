"""An engine process whose first device has memory for one slot, its second one for more.

python -m tests.musicgen_engine.core.uneven_engines FOLDER CHECKPOINT CONFIG SOCKET
"""

from dataclasses import replace
from pathlib import Path

from musicgen_engine.config import ModelConfig
from musicgen_engine.core.loaded_model import LoadedModel
from tests.musicgen_engine.core.two_engines import serve


def load(folder: Path, _config: ModelConfig) -> list[LoadedModel]:
    first, second = (LoadedModel.load(folder, ModelConfig(device="cpu")) for _ in range(2))
    return [replace(first, slots=1), second]


if __name__ == "__main__":
    serve(load)
