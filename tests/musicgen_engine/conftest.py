from collections.abc import Iterator

import pytest

from tests.conftest import staying_here


@pytest.fixture(autouse=True)
def working_directory() -> Iterator[None]:
    with staying_here():
        yield
