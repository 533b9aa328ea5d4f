import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def working_directory() -> Iterator[None]:
    """Loading a model changes it, as a process of its own may."""
    before = Path.cwd()
    yield
    os.chdir(before)
