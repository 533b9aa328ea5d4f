"""The page of a gateway that asks for a key."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from gateway.access import read_keys
from gateway.settings import GatewaySettings
from tests.browser.page import ask, draw_frame, whole
from tests.gateway.conftest import running
from tests.gateway.fake_triton import FakeTriton

GOOD_KEY, OTHER_KEY = "a-key-of-16-letters", "another-of-16-letters"


@pytest.fixture
def guarded_url(triton: FakeTriton) -> Iterator[str]:
    """The address of a gateway that asks for a key."""
    settings = GatewaySettings(api_keys=read_keys(GOOD_KEY), poll_interval=0.01)
    with running(settings, triton) as address:
        yield address


@pytest.fixture
def guarded_page(browser: Browser, guarded_url: str) -> Iterator[Page]:
    with browser.new_context(locale="fr-FR") as context:
        page = context.new_page()
        page.goto(guarded_url)
        yield page


def give(page: Page, key: str) -> None:
    name = re.compile("Ce service demande une clé|Cette clé est inconnue ici")
    page.get_by_role("dialog", name=name).get_by_role("textbox", name=name).fill(key)
    page.get_by_role("button", name="Continuer").click()


def test_a_tab_asks_for_the_key_once(guarded_page: Page) -> None:
    give(guarded_page, GOOD_KEY)
    for _ in range(2):
        expect(guarded_page.locator("#model")).to_have_value("musicgen-tiny")
        expect(guarded_page.get_by_role("dialog")).to_be_hidden()
        ask(guarded_page, "calm piano", "2")
        whole(guarded_page)
        guarded_page.reload()
    assert guarded_page.evaluate("localStorage.getItem('key')") is None


def test_another_key_can_follow_a_wrong_one(guarded_page: Page) -> None:
    give(guarded_page, OTHER_KEY)
    dialog = guarded_page.get_by_role("dialog", name="Cette clé est inconnue ici.")
    expect(dialog).to_be_visible()
    give(guarded_page, GOOD_KEY)
    expect(guarded_page.get_by_role("dialog")).to_be_hidden()
    expect(guarded_page.locator("#model")).to_have_value("musicgen-tiny")


def test_a_closed_dialog_shows_an_error_and_can_open_again(guarded_page: Page) -> None:
    expect(guarded_page.get_by_role("dialog")).to_be_visible()
    guarded_page.keyboard.press("Escape")
    expect(guarded_page.get_by_role("alert")).to_contain_text("Le service demande une clé.")
    guarded_page.get_by_role("button", name="Créer").click()
    expect(guarded_page.get_by_role("dialog")).to_be_visible()


def withdraw(page: Page, *paths: str) -> None:
    refusal = {"error": {"code": "unauthorized", "message": "No more.", "field": None}}
    for path in paths:
        page.route(path, lambda route: route.fulfill(status=401, json=refusal))


def test_a_song_goes_on_though_its_key_is_withdrawn(guarded_page: Page, triton: FakeTriton) -> None:
    give(guarded_page, GOOD_KEY)
    expect(guarded_page.locator("#model")).to_have_value("musicgen-tiny")
    triton.pause = 0.5  # for a second of music
    ask(guarded_page, "calm piano", "6")
    withdraw(guarded_page, "**/generations/*", "**/models")
    for _ in range(2):  # one for the progress, one for the models at the end
        expect(guarded_page.get_by_role("dialog")).to_be_visible()
        guarded_page.keyboard.press("Escape")
        expect(guarded_page.get_by_role("dialog")).to_be_hidden()
    whole(guarded_page)
    assert not guarded_page.get_by_role("dialog").is_visible()


def test_a_song_without_a_key_opens_one_dialog(guarded_page: Page) -> None:
    give(guarded_page, GOOD_KEY)
    expect(guarded_page.locator("#model")).to_have_value("musicgen-tiny")
    withdraw(guarded_page, "**/generate", "**/models")
    ask(guarded_page, "calm piano", "2")
    expect(guarded_page.get_by_role("dialog")).to_be_visible()
    guarded_page.keyboard.press("Escape")
    expect(guarded_page.get_by_role("alert")).to_contain_text("Le service demande une clé.")
    guarded_page.evaluate("fetch('/models').then(() => null)")  # later than any call of the page
    draw_frame(guarded_page)
    assert not guarded_page.get_by_role("dialog").is_visible()
