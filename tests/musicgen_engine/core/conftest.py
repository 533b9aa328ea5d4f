from pathlib import Path

import pytest

from musicgen_engine.core.loaded_model import LoadedModel
from tests.musicgen_engine.conftest import load
from tests.musicgen_engine.core.harness import Result, generate
from tests.musicgen_engine.core.songs import DRUMS, SAMPLED, joining


@pytest.fixture(scope="session")
def sampled(tiny: LoadedModel) -> Result:
    """The result of SAMPLED alone."""
    return generate(tiny, SAMPLED)


@pytest.fixture(scope="session")
def drummed(tiny: LoadedModel) -> Result:
    """The result of SAMPLED whose text changes at frame 60."""
    return generate(tiny, SAMPLED.changed(60, DRUMS))


@pytest.fixture(scope="session")
def another(tiny_checkpoint: Path) -> LoadedModel:
    """The model of a new engine."""
    return load(tiny_checkpoint)


@pytest.fixture(scope="session")
def joined(tiny: LoadedModel) -> Result:
    return generate(tiny, joining(SAMPLED))
