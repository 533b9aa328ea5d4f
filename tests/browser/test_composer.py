"""The composer: its settings, and what they request."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from protocol.errors import WeightsMissing
from tests.browser.page import ask, whole
from tests.gateway.fake_triton import FakeTriton


def test_an_unavailable_model_says_why(quiet_page: Page, triton: FakeTriton) -> None:
    triton.models.add("musicgen-small")
    triton.failing["musicgen-small"] = WeightsMissing("Its weights are not here.")
    quiet_page.reload()
    option = quiet_page.locator("option[value=musicgen-small]")
    expect(option).to_have_text("musicgen-small · 300M · mono · unavailable")
    quiet_page.select_option("#model", "musicgen-small")
    expect(quiet_page.locator("#note")).to_contain_text("This model can’t be used now.")
    cause = quiet_page.get_by_text("Its weights are not here.")
    expect(cause).to_be_hidden()
    quiet_page.get_by_text("For the administrator").click()
    expect(cause).to_be_visible()


def test_a_model_that_is_not_here_says_how_much_it_downloads(quiet_page: Page) -> None:
    quiet_page.select_option("#model", "musicgen-small")
    expect(quiet_page.locator("#note")).to_contain_text("downloads them. Up to 2 GB.")


def test_settings_and_volume_outlive_a_reload(quiet_page: Page) -> None:
    quiet_page.fill("#prompt", "sad flute")
    quiet_page.fill("#duration", "7")
    quiet_page.get_by_label("Ending").select_option("loop")
    ask(quiet_page, "sad flute", "7")
    whole(quiet_page)
    quiet_page.get_by_label("Volume").fill("0.5")
    quiet_page.reload()
    expect(quiet_page.locator("#prompt")).to_have_value("sad flute")
    expect(quiet_page.locator("#duration")).to_have_value("7")
    expect(quiet_page.get_by_label("Ending")).to_have_value("loop")
    expect(quiet_page.get_by_label("Volume")).to_have_value("0.5")


def test_what_another_page_has_stored_does_no_harm(quiet_page: Page) -> None:
    ask(quiet_page, "calm piano", "1")
    whole(quiet_page)
    for name in ("draft", "words", "volume", "language"):
        for value in ("[nonsense", "5", "{}", '"x_y"'):
            quiet_page.evaluate(f"localStorage.setItem('{name}', '{value}')")
            quiet_page.reload()
            expect(quiet_page.locator("#model")).to_have_value("musicgen-tiny")
            expect(quiet_page.locator("#songs time")).not_to_be_empty()


@pytest.mark.parametrize(
    ("ending", "fields"), [("Cut", {}), ("Fade", {"ending": "fade"}), ("Loop", {"loop": True})]
)
def test_the_form_chooses_the_ending(quiet_page: Page, ending: str, fields: Any) -> None:
    quiet_page.get_by_label("Ending").select_option(label=ending)
    with quiet_page.expect_request("**/generate") as sent:
        ask(quiet_page, "calm piano", "3")
    body: Any = sent.value.post_data_json
    assert {name: body[name] for name in ("ending", "loop") if name in body} == fields
    whole(quiet_page)


def test_a_loop_is_as_long_as_its_bars(quiet_page: Page) -> None:
    quiet_page.get_by_label("Ending").select_option("loop")
    quiet_page.get_by_label("Tempo").fill("120")
    quiet_page.get_by_label("Key", exact=True).select_option("Minor")
    with quiet_page.expect_request("**/generate") as sent:
        ask(quiet_page, "happy guitar", "7")
    body: Any = sent.value.post_data_json
    assert body["prompt"] == "happy guitar, 120 bpm, minor key"
    assert (body["bars"], body["bpm"], "duration" in body) == (4, 120, False)
    whole(quiet_page)
    expect(quiet_page.locator("#time")).to_contain_text("/ 0:08")
    quiet_page.reload()
    expect(quiet_page.locator("#prompt")).to_have_value("happy guitar")
    expect(quiet_page.get_by_label("Tempo")).to_have_value("120")
