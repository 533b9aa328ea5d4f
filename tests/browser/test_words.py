"""The words that a small model does not know, and refusals in the words of the page."""

import io
import json
import re

import av
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.page import ask, paused, playing


def test_words_that_the_small_model_does_not_know_are_marked(quiet_page: Page) -> None:
    quiet_page.fill("#prompt", "Clávier, calm saxophone, 90 bpm, and a Theremin")
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


def test_an_example_is_heard_before_it_is_used(quiet_page: Page) -> None:
    """One player sounds: the deck or an example."""
    ask(quiet_page, "calm piano", "30")
    expect(playing(quiet_page)).to_be_visible()
    for name in ("Calm piano", "Synthwave", "Epic brass", "Sad flute"):
        quiet_page.get_by_role("button", name=f"Hear {name}").click()
        expect(quiet_page.get_by_role("button", name=f"Stop {name}")).to_be_visible()
        expect(quiet_page.get_by_role("button", name=re.compile("^Stop "))).to_have_count(1)
    expect(paused(quiet_page)).to_be_visible()
    expect(quiet_page.locator("#prompt")).to_have_value("calm piano")
    quiet_page.locator("#play").click()
    expect(quiet_page.get_by_role("button", name="Hear Sad flute")).to_be_visible()
    expect(playing(quiet_page)).to_be_visible()


def test_an_example_is_made_of_the_prompt_that_it_gives(quiet_page: Page) -> None:
    buttons = quiet_page.locator("#examples [data-sound]")
    for index in range(4):
        sound = buttons.nth(index).get_attribute("data-sound")
        response = quiet_page.request.get(f"{quiet_page.url}sounds/{sound}.mp3")
        assert response.headers["content-type"] == "audio/mpeg"
        assert len(response.body()) < 60_000
        with av.open(io.BytesIO(response.body())) as file:
            receipt = json.loads(file.metadata["comment"])
        prompt = buttons.nth(index).locator("+ button").get_attribute("value")
        assert (receipt["model"], receipt["prompt"]) == ("musicgen-tiny", prompt)
