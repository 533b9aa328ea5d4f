"""An engine process whose model is on two devices, both of them the CPU.

python -m tests.musicgen_engine.core.two_engines FOLDER CHECKPOINT CONFIG SOCKET
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from musicgen_engine.channel import Channel
from musicgen_engine.config import ModelConfig
from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.core.server import EngineServer, Load
from musicgen_engine.model.guidance import Guidance
from musicgen_engine.settings import EngineSettings
from protocol.request import GenerationRequest
from protocol.section import Section

FATAL_SEED = 13
UNREADABLE = "a text with which the tokenizer fails"


class Fragile:
    """A decoder whose device fails for good on one seed."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def set_request(
        self, slots: Sequence[int], request: GenerationRequest, guidance: Guidance
    ) -> None:
        if request.seed == FATAL_SEED:
            raise torch.AcceleratorError("the device is gone")
        self._decoder.set_request(slots, request, guidance)


def load(folder: Path, _config: ModelConfig) -> list[LoadedModel]:
    first, second = (LoadedModel.load(folder, ModelConfig(device="cpu")) for _ in range(2))
    decoder: Any = Fragile(second.decoder)

    def check_texts(section: Section, within: str) -> None:
        if section.prompt == UNREADABLE:
            raise RuntimeError("no such text")
        first.check_texts(section, within)

    return [replace(first, check_texts=check_texts), replace(second, decoder=decoder)]


def serve(load: Load) -> None:
    channel = Channel(Connection(int(sys.argv[4])))
    server = EngineServer(channel, EngineSettings.from_environment(os.environ), load)
    server.run(Path(sys.argv[1]), None, ModelConfig())


if __name__ == "__main__":
    serve(load)
