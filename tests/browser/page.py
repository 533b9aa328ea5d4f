"""Actions of a user on the page, and what the page shows."""

import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

OpenPage = Callable[..., Page]


def ask(page: Page, prompt: str, seconds: str) -> None:
    page.fill("#prompt", prompt)
    page.fill("#duration", seconds)
    page.press("#duration", "Control+Enter")


def song(page: Page) -> Locator:
    """The latest song."""
    return page.locator("article").first


def whole(page: Page) -> Locator:
    """The latest song, once all of it is there."""
    expect(
        song(page).get_by_role("button", name=re.compile("Download|Télécharger"))
    ).to_be_visible()
    return song(page)


def saved(page: Page, format: str = "wav") -> bytes:
    song(page).locator("[data-part=format]").select_option(format)
    with page.expect_download() as download:
        song(page).get_by_role("button", name="Download").click()
    assert download.value.suggested_filename.endswith(f".{format}")
    return Path(download.value.path()).read_bytes()


def position(page: Page) -> float:
    return float(song(page).get_by_role("slider").input_value())


def is_at(page: Page, seconds: float) -> bool:
    return abs(position(page) - seconds) < 0.1


def playing(page: Page) -> Locator:
    """The button of the latest song while it plays."""
    return song(page).locator(".play[data-state=pause]")


def draw_frame(page: Page) -> None:
    """Wait until the page has drawn a frame."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
