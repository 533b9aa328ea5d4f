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
    quiet_page.evaluate("window.shown = navigator.mediaSession.metadata")
    quiet_page.evaluate("session.seekto({ seekTime: 10 })")
    quiet_page.evaluate("session.seekforward({})")
    until(lambda: position(quiet_page) >= 15)
    assert quiet_page.evaluate("navigator.mediaSession.metadata === shown")  # told once
    quiet_page.evaluate("session.pause()")
    expect(paused(quiet_page)).to_be_visible()
    quiet_page.evaluate("session.nexttrack(), session.previoustrack()")
    expect(quiet_page.get_by_role("button", name="Take A", pressed=True)).to_be_visible()
    quiet_page.evaluate("session.play()")
    expect(playing(quiet_page)).to_have_attribute("aria-label", "Pause, take A")


def test_a_hidden_page_reports_what_plays(quiet_page: Page) -> None:
    quiet_page.add_init_script(SESSION)
    quiet_page.reload()
    ask(quiet_page, "calm piano", "4")
    expect(quiet_page).to_have_title("▶ calm piano · AudioCraft Service")
    whole(quiet_page)
    quiet_page.evaluate("window.requestAnimationFrame = () => 0")  # as in a hidden page
    quiet_page.evaluate("session.pause()")
    assert quiet_page.evaluate("navigator.mediaSession.playbackState") == "paused"
    quiet_page.evaluate("session.play()")
    until(lambda: quiet_page.evaluate("navigator.mediaSession.playbackState") == "playing")
    expect(quiet_page).to_have_title("AudioCraft Service")  # at the end of the song
    assert quiet_page.evaluate("navigator.mediaSession.playbackState") == "paused"


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


def test_digits_choose_takes_whatever_they_write(quiet_page: Page) -> None:
    quiet_page.select_option("#variations", "2")
    ask(quiet_page, "calm piano", "2")
    whole(quiet_page)
    devtools = quiet_page.context.new_cdp_session(quiet_page)
    quiet_page.evaluate("document.activeElement.blur()")
    for key, code, letter in (("é", "Digit2", "B"), ("&", "Digit1", "A"), ("2", "Numpad2", "B")):
        devtools.send("Input.dispatchKeyEvent", {"type": "keyDown", "key": key, "code": code})
        expect(
            quiet_page.get_by_role("button", name=f"Take {letter}", pressed=True)
        ).to_be_visible()
