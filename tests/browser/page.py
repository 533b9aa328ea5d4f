"""What a person does with the page, and what they see."""

import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

SONG_MS = 120_000  # A song of 2 s, the model's first load included.

OpenPage = Callable[..., Page]


def ask(page: Page, prompt: str, seconds: str) -> None:
    page.fill("#prompt", prompt)
    page.fill("#duration", seconds)
    page.press("#duration", "Control+Enter")


def song(page: Page) -> Locator:
    """The latest."""
    return page.locator("article").first


def whole(page: Page, timeout: float = SONG_MS) -> Locator:
    """The latest, once all of it is there."""
    expect(song(page).get_by_role("button", name=re.compile("Download|Télécharger"))).to_be_visible(
        timeout=timeout
    )
    return song(page)


def saved(page: Page, format: str = "wav") -> bytes:
    song(page).locator("[data-part=format]").select_option(format)
    with page.expect_download(timeout=SONG_MS) as download:
        song(page).get_by_role("button", name="Download").click()
    assert download.value.suggested_filename.endswith(f".{format}")
    return Path(download.value.path()).read_bytes()


def position(page: Page) -> float:
    return float(song(page).get_by_role("slider").input_value())


def stands(page: Page, seconds: float) -> bool:
    return abs(position(page) - seconds) < 0.1
