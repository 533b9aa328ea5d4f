import os

import pytest

from tests.browser import chromium

MISSING = "no Chromium found: install one, or name one with CHROMIUM=/path/to/it"


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Skips where there is no browser; fails there with REQUIRE_BROWSER=1."""
    path = chromium.find()
    if path is None:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    return path


def pytest_terminal_summary(terminalreporter):
    skipped = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if MISSING in str(report.longrepr)
    ]
    if skipped:
        terminalreporter.write_sep("!", "THE PAGE WAS NOT TESTED", red=True, bold=True)
        terminalreporter.line(f"{len(skipped)} browser tests skipped: {MISSING}")
