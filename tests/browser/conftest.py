import os

import pytest

from tests.browser import chromium


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Skips where there is no browser; fails there with REQUIRE_BROWSER=1."""
    path = chromium.find()
    if path is None:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(chromium.MISSING)
        pytest.skip(chromium.MISSING)
    return path
