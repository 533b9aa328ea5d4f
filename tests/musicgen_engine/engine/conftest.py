import os
from pathlib import Path
from typing import Any

import pytest
import torch

from musicgen_engine.engine.model import Model
from musicgen_engine.placement import Placement
from tests.conftest import ROOT

TINY = ROOT / "model_repository" / "musicgen-tiny" / "1"


def load(folder: Path, **placement: Any) -> Model:
    """Loading changes the working directory: the engine is a process of its own, we are not."""
    home = Path.cwd()
    try:
        return Model.load(folder, Placement(device="cpu", **placement))
    finally:
        os.chdir(home)


@pytest.fixture(scope="session")
def tiny() -> Model:
    return load(TINY)


@pytest.fixture(scope="session")
def stereo(stereo_checkpoint: Path) -> Model:
    return load(stereo_checkpoint)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """As fast for so small models, and steady where cores are shared."""
    torch.set_num_threads(1)
