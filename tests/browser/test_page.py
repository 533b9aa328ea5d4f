"""The page in a real Chromium, against the running stack and its musicgen-tiny."""

import io
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from gateway.access import read_keys
from gateway.settings import Settings
from tests.gateway.conftest import running
from tests.gateway.fake_triton import FakeTriton

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SONG_MS = 120_000  # A song of 2 s, the model's first load included.

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium_path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser, stack_url: str) -> Iterator[OpenPage]:
    """Opens the page in a fresh profile of a locale, at a width in pixels."""
    contexts = []

    def open_in(locale: str = "en-US", width: int = 900) -> Page:
        context = browser.new_context(locale=locale, viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.goto(stack_url)
        expect(page.locator("#model")).to_have_value("musicgen-tiny")
        return page

    yield open_in
    for context in contexts:
        context.close()


def ask(page: Page, prompt: str, seconds: str) -> None:
    page.fill("#prompt", prompt)
    page.fill("#duration", seconds)
    page.press("#duration", "Control+Enter")


def test_a_person_hears_and_downloads_two_seconds(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    ask(page, "calm piano", "2")
    expect(page.locator("#player")).to_be_visible(timeout=SONG_MS)

    page.wait_for_function("document.querySelector('audio').readyState >= 1")
    assert page.eval_on_selector("audio", "it => it.duration") == pytest.approx(2, abs=0.01)
    with page.expect_download() as download:
        page.click("#player a")
    assert download.value.suggested_filename.endswith(".wav")
    download.value.save_as(tmp_path / "song.wav")
    with wave.open(io.BytesIO((tmp_path / "song.wav").read_bytes())) as song:
        assert (song.getframerate(), song.getnframes()) == (32000, 100 * 640)
        assert any(song.readframes(song.getnframes()))
    assert complaints == []


@pytest.mark.parametrize(("locale", "word"), [("en-GB", "Generate"), ("fr-CA", "Générer")])
def test_the_page_speaks_the_browsers_language(open_page: OpenPage, locale: str, word: str) -> None:
    page = open_page(locale)
    expect(page.locator("#generate")).to_have_text(word)
    expect(page.locator("html")).to_have_attribute("lang", locale[:2])


def test_a_chosen_language_outlives_a_reload(open_page: OpenPage) -> None:
    page = open_page("en-US")
    page.get_by_role("button", name="Français").click()
    page.reload()
    expect(page.locator("#generate")).to_have_text("Générer")


@pytest.mark.parametrize(
    ("prompt", "seconds", "field"), [(" ", "2", "prompt"), ("calm piano", "99999", "duration")]
)
def test_a_refused_value_is_explained_beside_its_field(
    open_page: OpenPage, prompt: str, seconds: str, field: str
) -> None:
    page = open_page()
    ask(page, prompt, seconds)
    expect(page.locator(f"#{field}")).to_have_attribute("aria-invalid", "true")
    expect(page.locator(f"#{field}")).to_be_focused()
    expect(page.locator(f"#{field}-error small")).not_to_be_empty()
    expect(page.locator("#failure")).to_be_hidden()


def test_cancel_returns_to_idle(open_page: OpenPage) -> None:
    page = open_page()
    ask(page, "calm piano", "300")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("status")).to_have_text("Cancelled")
    expect(page.locator("#generate")).to_have_attribute("aria-disabled", "false")
    expect(page.locator("#cancel, #player").filter(visible=True)).to_have_count(0)


def test_a_phone_shows_the_page_without_sideways_scrolling(open_page: OpenPage) -> None:
    page = open_page("fr-FR", width=360)
    assert page.evaluate("document.documentElement.scrollWidth") == 360


GOOD_KEY, OTHER_KEY = "a-key-of-16-letters", "another-of-16-letters"


@pytest.fixture
def guarded_url() -> Iterator[str]:
    """Of a gateway that asks for a key, before a Triton that sings one note."""
    settings = Settings(api_keys=read_keys(GOOD_KEY), poll_interval=0.01)
    with running(settings, FakeTriton("musicgen-tiny")) as address:
        yield address


@pytest.fixture
def guarded_page(browser: Browser, guarded_url: str) -> Iterator[Page]:
    with browser.new_context(locale="fr-FR") as context:
        page = context.new_page()
        page.goto(guarded_url)
        yield page


def give(page: Page, key: str) -> None:
    page.get_by_role("dialog").get_by_label("Ce service demande une clé").fill(key)
    page.get_by_role("button", name="Continuer").click()


def test_who_gives_a_key_hears_music_and_is_not_asked_again_in_this_tab(
    guarded_page: Page,
) -> None:
    give(guarded_page, GOOD_KEY)
    for _ in range(2):
        expect(guarded_page.locator("#model")).to_have_value("musicgen-tiny")
        expect(guarded_page.get_by_role("dialog")).to_be_hidden()
        ask(guarded_page, "calm piano", "2")
        expect(guarded_page.locator("#player")).to_be_visible()
        guarded_page.reload()
    assert guarded_page.evaluate("localStorage.getItem('key')") is None


def test_a_wrong_key_is_told_and_another_can_be_given(guarded_page: Page) -> None:
    give(guarded_page, OTHER_KEY)
    expect(guarded_page.locator("#key-error")).to_have_text("Cette clé est inconnue ici.")
    give(guarded_page, GOOD_KEY)
    expect(guarded_page.get_by_role("dialog")).to_be_hidden()
    expect(guarded_page.locator("#model")).to_have_value("musicgen-tiny")


def test_who_has_no_key_is_told_and_may_try_again(guarded_page: Page) -> None:
    expect(guarded_page.get_by_role("dialog")).to_be_visible()
    guarded_page.keyboard.press("Escape")
    expect(guarded_page.get_by_role("alert")).to_contain_text("Le service demande une clé.")
    guarded_page.get_by_role("button", name="Réessayer").click()
    expect(guarded_page.get_by_role("dialog")).to_be_visible()


def test_who_gives_no_key_for_a_song_is_asked_once(guarded_page: Page) -> None:
    give(guarded_page, GOOD_KEY)
    expect(guarded_page.locator("#model")).to_have_value("musicgen-tiny")
    refusal = {"error": {"code": "unauthorized", "message": "No more.", "field": None}}
    for path in ("**/generate", "**/models"):  # as when the key is withdrawn
        guarded_page.route(path, lambda route: route.fulfill(status=401, json=refusal))
    ask(guarded_page, "calm piano", "2")
    expect(guarded_page.get_by_role("dialog")).to_be_visible()
    guarded_page.keyboard.press("Escape")
    expect(guarded_page.get_by_role("alert")).to_contain_text("Le service demande une clé.")
    guarded_page.wait_for_timeout(500)
    expect(guarded_page.get_by_role("dialog")).to_be_hidden()
