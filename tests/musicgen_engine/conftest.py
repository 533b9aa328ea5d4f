from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from musicgen_engine.config import ModelConfig
from musicgen_engine.core.loaded_model import LoadedModel
from tests.conftest import ROOT, staying_here
from training.random_checkpoint import MINIMAL, write_checkpoint

TINY = ROOT / "model_repository" / "musicgen-tiny" / "1"
TINY_MELODY = ROOT / "model_repository" / "musicgen-tiny-melody" / "1"


def load(folder: Path, **parameters: Any) -> LoadedModel:
    with staying_here():
        return LoadedModel.load(folder, ModelConfig(device="cpu", **parameters))


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mono")
    write_checkpoint(folder, MINIMAL, channels=1)
    return folder


@pytest.fixture(scope="session")
def stereo_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stereo")
    write_checkpoint(folder, MINIMAL, channels=2)
    return folder


@pytest.fixture(scope="session")
def rotary_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rotary")
    write_checkpoint(folder, replace(MINIMAL, positions="rope"))
    return folder


@pytest.fixture(scope="session")
def melody_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("melody")
    write_checkpoint(folder, MINIMAL, melody=True)
    return folder


@pytest.fixture(scope="session")
def stereo_melody_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stereo-melody")
    write_checkpoint(folder, MINIMAL, channels=2, melody=True)
    return folder


@pytest.fixture(scope="session")
def melody(melody_checkpoint: Path) -> LoadedModel:
    return load(melody_checkpoint)


@pytest.fixture(scope="session")
def stereo_melody(stereo_melody_checkpoint: Path) -> LoadedModel:
    return load(stereo_melody_checkpoint)


@pytest.fixture(scope="session")
def tiny(tiny_checkpoint: Path) -> LoadedModel:
    return load(tiny_checkpoint)


@pytest.fixture(scope="session")
def int8(tiny_checkpoint: Path) -> LoadedModel:
    return load(tiny_checkpoint, precision="int8")


@pytest.fixture(scope="session")
def stereo(stereo_checkpoint: Path) -> LoadedModel:
    return load(stereo_checkpoint)


@pytest.fixture(scope="session")
def rotary(rotary_checkpoint: Path) -> LoadedModel:
    return load(rotary_checkpoint)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """As fast for so small models, and steady where cores are shared."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def working_directory() -> Iterator[None]:
    with staying_here():
        yield
