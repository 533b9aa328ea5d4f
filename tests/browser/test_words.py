"""The words that a small model does not know, and the examples."""

import io
import json
import re

import av
from playwright.sync_api import Page, expect

from tests.browser.page import ask, paused, playing
from tests.conftest import until


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


def test_a_long_prompt_scrolls_in_its_field_with_its_marks(quiet_page: Page) -> None:
    quiet_page.fill("#prompt", "saxophone and calm piano " * 80)
    size = "document.querySelector('#prompt').getBoundingClientRect().height"
    assert quiet_page.evaluate(size) < 200
    heights = "['prompt', 'marks'].map((id) => document.getElementById(id).scrollHeight)"
    field, marks = quiet_page.evaluate(heights)
    assert abs(field - marks) < 30
    quiet_page.press("#prompt", "Control+End")
    places = "['prompt', 'marks'].map((id) => document.getElementById(id).scrollTop)"
    until(lambda: quiet_page.evaluate(places)[0] > 100)
    until(lambda: len(set(quiet_page.evaluate(places))) == 1)


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
