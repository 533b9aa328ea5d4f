"""Several tabs of one browser."""

from playwright.sync_api import Page, expect

from tests.browser.page import ask, paused, playing, rows, whole
from tests.gateway.fake_triton import FakeTriton


def test_only_one_tab_sounds(quiet_page: Page) -> None:
    ask(quiet_page, "calm piano", "30")
    expect(playing(quiet_page)).to_be_visible()
    whole(quiet_page)
    other = quiet_page.context.new_page()
    other.goto(quiet_page.url)
    other.get_by_role("button", name="Play calm piano").click()
    expect(playing(other)).to_be_visible()
    expect(paused(quiet_page)).to_be_visible()
    expect(other).to_have_title("▶ calm piano · AudioCraft Service")
    expect(quiet_page).to_have_title("AudioCraft Service")


def test_another_tab_sees_a_song_come(quiet_page: Page, triton: FakeTriton) -> None:
    other = quiet_page.context.new_page()
    other.goto(quiet_page.url)
    expect(other.locator("#facts")).to_contain_text("An example")
    triton.pause = 0.3
    ask(quiet_page, "calm piano", "12")
    rows(other).click()
    expect(other.locator("#state")).to_have_text("Generating")
    expect(other.get_by_role("button", name="Save", exact=True)).to_be_enabled()
    assert len(triton.requests) == 1
    triton.pause = 0
    expect(other.locator("#state")).to_have_text("Done")
    expect(other.locator("#time")).to_contain_text("/ 0:12")


def test_another_tab_goes_on_with_a_song_whose_tab_is_closed(
    quiet_page: Page, triton: FakeTriton
) -> None:
    tabs = [quiet_page.context.new_page() for _ in range(2)]
    for tab in tabs:
        tab.goto(quiet_page.url)
        expect(tab.locator("#facts")).to_contain_text("An example")
    triton.pause = 0.3  # for a second of music
    ask(quiet_page, "calm piano", "30")
    for tab in tabs:
        rows(tab).click()
        expect(tab.get_by_role("button", name="Play, take A")).to_be_enabled()
    quiet_page.close()
    triton.pause = 0
    for tab in tabs:
        expect(tab.locator("#state")).to_have_text("Done")
    assert len(triton.requests) == 2  # one of the two goes on
