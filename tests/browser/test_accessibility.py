"""axe looks at each state of the page."""

from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from protocol.errors import TooSlow
from tests.browser.page import ask, press, steer, tune, whole
from tests.gateway.fake_triton import FakeTriton


def violations(page: Page) -> list[str]:
    """The findings of axe, by rule and place."""
    found = Axe().run(page).response["violations"]
    return [f"{rule['id']} {node['target']}" for rule in found for node in rule["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    quiet_page: Page, triton: FakeTriton, scheme: Literal["light", "dark"]
) -> None:
    quiet_page.emulate_media(color_scheme=scheme)
    expect(quiet_page.locator("#facts")).to_contain_text("An example")
    quiet_page.click("#more summary")
    quiet_page.locator("#file").set_input_files(tune(2))
    expect(quiet_page.locator("#trim")).to_be_visible()
    ask(quiet_page, "calm piano", "1")
    whole(quiet_page)
    ask(quiet_page, " ", "1")
    expect(quiet_page.locator("#prompt + #refusal")).not_to_be_empty()
    assert violations(quiet_page) == []
    quiet_page.get_by_role("button", name="Add a section").click()
    press(quiet_page, "l")
    expect(quiet_page.get_by_role("slider", name="Loop to")).to_be_visible()
    assert violations(quiet_page) == []
    press(quiet_page, "?")
    expect(quiet_page.get_by_role("dialog", name="Keys")).to_be_visible()
    assert violations(quiet_page) == []
    quiet_page.get_by_role("button", name="Close").click()
    quiet_page.select_option("#model", "musicgen-tiny")
    triton.pause = 0.4
    steer(quiet_page, "20")
    quiet_page.get_by_text("Words", exact=True).click()
    assert violations(quiet_page) == []
    triton.cuts = [TooSlow("The song took too long.")]
    expect(quiet_page.locator("#error")).not_to_be_empty()
    assert violations(quiet_page) == []
