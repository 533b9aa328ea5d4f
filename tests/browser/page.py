"""Actions of a user on the page, and what the page shows."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from playwright.sync_api import FilePayload, Locator, Page, expect

OpenPage = Callable[..., Page]


def ask(page: Page, prompt: str, seconds: str) -> None:
    page.fill("#prompt", prompt)
    page.fill("#duration", seconds)
    page.press("#duration", "Control+Enter")


def whole(page: Page) -> Locator:
    """The deck, once all of the chosen take is there."""
    expect(page.locator("#save")).to_be_enabled()
    return page.locator("#deck")


def saved(page: Page, format: str = "wav") -> bytes:
    """The file of the chosen take."""
    page.click("#save")
    with page.expect_download() as download:
        page.click(f"#formats [value={format}]")
    assert download.value.suggested_filename.endswith(f".{format}")
    return Path(download.value.path()).read_bytes()


def position(page: Page) -> float:
    return float(page.locator("#position").input_value())


def is_at(page: Page, seconds: float) -> bool:
    return abs(position(page) - seconds) < 0.1


def playing(page: Page) -> Locator:
    """The play button while a song plays."""
    return page.locator("#play[data-state=pause]")


def paused(page: Page) -> Locator:
    """The play button while none plays."""
    return page.locator("#play[data-state=play]")


def press(page: Page, key: str) -> None:
    """Press a key while no field has the focus."""
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press(key)


def rows(page: Page) -> Locator:
    """The titles on the shelf, the newest first."""
    return page.locator("#songs .title")


def draw_frame(page: Page) -> None:
    """Wait until the page has drawn a frame."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def tune(seconds: float, amplitude: float = 0.9, pause: float = 0) -> FilePayload:
    """A tone, and seconds of silence behind it."""
    file = io.BytesIO()
    wave = amplitude * np.sin(np.arange(round(seconds * 32_000)) / 16)
    wave = np.pad(wave, (0, round(pause * 32_000)))
    soundfile.write(file, wave, 32_000, format="FLAC")
    return {"name": "tune.flac", "mimeType": "audio/flac", "buffer": file.getvalue()}


def drag(page: Page, target: Locator, start: float, end: float) -> None:
    """Drag across an element, between parts of its width."""
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    assert box
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], y, steps=5)
    page.mouse.up()


def steer(page: Page, seconds: str) -> None:
    """Begin a song that can be steered, and wait for its first music."""
    page.get_by_label("Steer", exact=True).check()
    ask(page, "calm piano", seconds)
    expect(playing(page)).to_be_visible()
