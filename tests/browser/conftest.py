import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from gateway.settings import GatewaySettings
from tests.browser import chromium
from tests.browser.page import OpenPage
from tests.conftest import TIMEOUT
from tests.gateway.conftest import running
from tests.gateway.fake_triton import FakeTriton

expect.set_options(timeout=1000 * TIMEOUT)

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",  # a microphone that beeps
    "--use-fake-ui-for-media-stream",
]


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Skip where there is no browser; with REQUIRE_BROWSER=1, fail."""
    path = chromium.find()
    if path is None:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(chromium.MISSING)
        pytest.skip(chromium.MISSING)
    return path


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    """One for each module: while Playwright runs, no asyncio test can have an event loop."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium_path, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Browser, stack_url: str) -> Iterator[OpenPage]:
    """Open the page in a new profile with a locale, at a width in pixels."""
    contexts = []

    def open_in(locale: str = "en-US", width: int = 900, script: str = "") -> Page:
        context = browser.new_context(locale=locale, viewport={"width": width, "height": 900})
        context.add_init_script(script)
        contexts.append(context)
        page = context.new_page()
        page.goto(stack_url)
        expect(page.locator("#model")).to_have_value("musicgen-tiny")
        return page

    yield open_in
    for context in contexts:
        context.close()


@pytest.fixture
def triton() -> FakeTriton:
    """Its songs are one ramp; `pause` says how fast they come."""
    return FakeTriton("musicgen-tiny", "musicgen-small", "musicgen-melody")


@pytest.fixture
def quiet_page(browser: Browser, triton: FakeTriton) -> Iterator[Page]:
    """The page of a gateway in front of `triton`."""
    with (
        running(GatewaySettings(poll_interval=0.01), triton) as address,
        browser.new_context(locale="en-US", has_touch=True) as context,
    ):
        page = context.new_page()
        page.goto(address)
        expect(page.locator("#model")).to_have_value("musicgen-tiny")
        yield page
