"""The transport: the lock screen and keys."""

import re

from playwright.sync_api import Page, expect

from tests.browser.page import ask, paused, playing, position, rows, whole
from tests.conftest import until

SESSION = """
window.session = {};
navigator.mediaSession.setActionHandler = (name, action) => { session[name] = action; };
"""


def test_the_lock_screen_controls_the_song(quiet_page: Page) -> None:
    quiet_page.add_init_script(SESSION)
    quiet_page.reload()
    quiet_page.select_option("#variations", "2")
    ask(quiet_page, "calm piano", "30")
    expect(playing(quiet_page)).to_be_visible()
    state = "[navigator.mediaSession.playbackState, navigator.mediaSession.metadata.title]"
    assert until(lambda: quiet_page.evaluate(state)) == ["playing", "calm piano"]
    quiet_page.evaluate("session.seekto({ seekTime: 10 })")
    quiet_page.evaluate("session.seekforward({})")
    until(lambda: position(quiet_page) >= 15)
    quiet_page.evaluate("session.pause()")
    expect(paused(quiet_page)).to_be_visible()
    quiet_page.evaluate("session.nexttrack(), session.previoustrack()")
    expect(quiet_page.get_by_role("button", name="Take A", pressed=True)).to_be_visible()
    quiet_page.evaluate("session.play()")
    expect(playing(quiet_page)).to_have_attribute("aria-label", "Pause, take A")


def test_keys_work_wherever_they_mean_nothing_else(quiet_page: Page) -> None:
    quiet_page.fill("#prompt", "calm piano")
    quiet_page.fill("#duration", "30")
    quiet_page.get_by_role("button", name="Make", exact=True).click()
    expect(playing(quiet_page)).to_be_visible()
    whole(quiet_page)
    quiet_page.keyboard.press("Space")  # It does not press Make again.
    expect(paused(quiet_page)).to_be_visible()
    expect(rows(quiet_page)).to_have_count(1)
    quiet_page.locator("#position").focus()
    quiet_page.keyboard.press("Space")
    expect(playing(quiet_page)).to_be_visible()
    quiet_page.get_by_role("button", name="Take A", exact=True).focus()
    quiet_page.keyboard.press("ArrowRight")
    until(lambda: position(quiet_page) > 5)
    quiet_page.locator("#prompt").press("l")
    expect(quiet_page.locator("#prompt")).to_have_value(re.compile("l"))
    expect(quiet_page.get_by_role("button", name="Loop", pressed=False)).to_be_visible()
    quiet_page.evaluate("document.activeElement.blur()")
    quiet_page.keyboard.down("l")
    quiet_page.keyboard.down("l")  # as a key that is held
    expect(quiet_page.get_by_role("button", name="Loop", pressed=True)).to_be_visible()
