"""The words that a small model does not know, and refusals in the words of the page."""

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.page import ask


def test_words_that_the_small_model_does_not_know_are_marked(quiet_page: Page) -> None:
    quiet_page.fill("#prompt", "Calm saxophone, 90 bpm, and a Theremin")
    expect(quiet_page.locator("#marks mark")).to_have_text(["saxophone", "Theremin"])
    expect(quiet_page.locator("#unknown")).to_have_text(
        "musicgen-tiny does not know: saxophone, Theremin"
    )
    field, marks = (quiet_page.locator(id).bounding_box() for id in ("#prompt", "#marks"))
    assert field == marks
    quiet_page.select_option("#model", "musicgen-small")
    expect(quiet_page.locator("#unknown")).to_be_empty()
    expect(quiet_page.locator("#marks mark")).to_have_count(0)


@pytest.mark.parametrize(
    ("locale", "sentence"),
    [("en-US", "Guidance: give 0 to 100."), ("fr-FR", "Guidage : donnez de 0 à 100.")],
)
def test_a_refusal_names_the_field_as_the_page_does(
    browser: Browser, quiet_page: Page, locale: str, sentence: str
) -> None:
    with browser.new_context(locale=locale) as context:
        page = context.new_page()
        page.goto(quiet_page.url)
        expect(page.locator("#model")).to_have_value("musicgen-tiny")
        page.click("#more summary")
        page.fill("#cfg_coef", "200")
        ask(page, "calm piano", "1")
        expect(page.locator("#cfg_coef + #refusal")).to_have_text(sentence)
