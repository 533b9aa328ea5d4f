from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from musicgen_engine.engine.model import Model
from musicgen_engine.placement import Placement
from tests.conftest import ROOT, staying_here
from training.checkpoint import write_checkpoint
from training.tiny import TINY as STRUCTURE

TINY = ROOT / "model_repository" / "musicgen-tiny" / "1"


def load(folder: Path, **placement: Any) -> Model:
    with staying_here():
        return Model.load(folder, Placement(device="cpu", **placement))


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rich_checkpoint(tmp_path_factory.mktemp("mono"), channels=1)


@pytest.fixture(scope="session")
def stereo_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rich_checkpoint(tmp_path_factory.mktemp("stereo"), channels=2)


def rich_checkpoint(folder: Path, channels: int) -> Path:
    """As musicgen-tiny, but one that hears its own codes: greedy, it does not repeat itself."""
    structure = replace(STRUCTURE, text_strength=0.2, code_strength=16.0)
    write_checkpoint(folder, structure, channels)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_checkpoint: Path) -> Model:
    return load(tiny_checkpoint)


@pytest.fixture(scope="session")
def stereo(stereo_checkpoint: Path) -> Model:
    return load(stereo_checkpoint)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """As fast for so small models, and steady where cores are shared."""
    torch.set_num_threads(1)
