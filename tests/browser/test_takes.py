"""The takes on the deck: which one plays, and which one has a star."""

import io
import re
from typing import Any

import numpy as np
import soundfile
from playwright.sync_api import Page, Route, expect

from tests.browser.page import (
    ask,
    draw_frame,
    paused,
    playing,
    position,
    press,
    rows,
    saved,
    tune,
    whole,
)
from tests.conftest import until
from tests.gateway.fake_triton import FakeTriton


def test_the_first_take_that_sounds_plays(quiet_page: Page) -> None:
    held = []

    def hold_the_first(route: Route) -> None:
        body: Any = route.request.post_data_json
        held.append(route) if body["seed"] == 7 else route.continue_()

    quiet_page.route("**/generate", hold_the_first)
    quiet_page.select_option("#variations", "3")
    quiet_page.click("#more summary")
    quiet_page.fill("#seed", "7")
    ask(quiet_page, "calm piano", "30")
    expect(playing(quiet_page)).to_have_attribute("aria-label", re.compile("Pause, take [BC]"))
    held[0].continue_()
    quiet_page.get_by_role("button", name="Take A").click()
    expect(playing(quiet_page)).to_have_attribute("aria-label", "Pause, take A")


def test_older_songs_sound_until_the_newest_one_does(quiet_page: Page) -> None:
    held = []

    def hold_the_newest(route: Route) -> None:
        body: Any = route.request.post_data_json
        held.append(route) if body["prompt"] == "fast drums" else route.continue_()

    quiet_page.route("**/generate", hold_the_newest)
    for prompt in ("calm piano", "fast drums"):
        ask(quiet_page, prompt, "30")
    expect(playing(quiet_page)).to_be_visible()
    expect(quiet_page.locator("#playing")).to_have_text("calm piano")
    expect(quiet_page.locator("#title")).to_have_text("fast drums")
    until(lambda: quiet_page.evaluate("true") and held)
    held[0].continue_()
    expect(quiet_page.locator("#playing")).to_have_text("fast drums")


def test_a_new_song_does_not_interrupt_the_last_choice(
    quiet_page: Page, triton: FakeTriton
) -> None:
    ask(quiet_page, "a song that is there", "30")
    whole(quiet_page)
    triton.pause = 1.5
    ask(quiet_page, "a song that will be", "30")
    rows(quiet_page).last.click()
    until(lambda: len(triton.requests) == 2)
    expect(quiet_page.locator("#playing")).to_have_text("a song that is there")
    quiet_page.locator("#position").fill("8")
    draw_frame(quiet_page)
    expect(playing(quiet_page)).to_be_visible()
    expect(quiet_page.locator("#title")).to_have_text("a song that is there")


def test_an_empty_deck_has_a_song_to_play(quiet_page: Page) -> None:
    expect(quiet_page.locator("#facts")).to_contain_text("An example")
    expect(rows(quiet_page)).to_have_count(0)
    quiet_page.keyboard.press("Space")
    expect(playing(quiet_page)).to_be_visible()
    until(lambda: position(quiet_page) > 0.2)
    quiet_page.get_by_role("button", name="Redo from here").click()
    expect(quiet_page.get_by_role("button", name="Take B", pressed=True)).to_be_visible()
    expect(rows(quiet_page)).to_have_count(1)


def redo_a_looped_song(page: Page, triton: FakeTriton, seconds: str, pause: float) -> None:
    """Its take B arrives at `pause` seconds for a second of music."""
    ask(page, "calm piano", seconds)
    whole(page)
    press(page, "l")
    triton.pause = pause
    page.locator("#position").fill("1")
    page.get_by_role("button", name="Redo from here").click()
    expect(playing(page)).to_have_attribute("aria-label", "Pause, take B")


def test_a_take_that_arrives_takes_the_loop(quiet_page: Page, triton: FakeTriton) -> None:
    redo_a_looped_song(quiet_page, triton, seconds="4", pause=0.4)
    expect(quiet_page.get_by_role("button", name="Loop", pressed=True)).to_be_visible()
    whole(quiet_page)
    until(lambda: position(quiet_page) > 3)
    until(lambda: position(quiet_page) < 1)  # it is repeated
    expect(quiet_page.get_by_role("button", name="Loop", pressed=True)).to_be_visible()


def test_a_loop_ends_with_a_take_that_is_too_short(quiet_page: Page, triton: FakeTriton) -> None:
    redo_a_looped_song(quiet_page, triton, seconds="9", pause=0.8)
    quiet_page.get_by_role("button", name="Stop").click()
    whole(quiet_page)
    expect(quiet_page.get_by_role("button", name="Loop", pressed=False)).to_be_visible()
    expect(paused(quiet_page)).to_be_visible()


def test_a_star_marks_a_take_for_good(quiet_page: Page) -> None:
    quiet_page.select_option("#variations", "2")
    ask(quiet_page, "calm piano", "1")
    whole(quiet_page)
    quiet_page.get_by_role("button", name="Take B", exact=True).click()
    quiet_page.get_by_role("button", name="Star for this take").click()
    expect(quiet_page.locator("#takes button")).to_have_text(["A", "B★"])
    quiet_page.reload()
    expect(quiet_page.locator("#takes button")).to_have_text(["A", "B★"])


def test_a_button_that_acts_keeps_or_passes_the_focus(quiet_page: Page) -> None:
    ask(quiet_page, "calm piano", "5")
    whole(quiet_page)
    for name in ("link", "command"):
        quiet_page.locator(f"#{name}").press("Enter")
        expect(quiet_page.locator(f"#{name}")).to_be_focused()
    quiet_page.locator("#redo").press("Enter")
    expect(quiet_page.get_by_role("button", name="Take B", pressed=True)).to_be_focused()


def test_the_example_that_comes_late_comes_once(quiet_page: Page) -> None:
    held: list[Route] = []
    quiet_page.route("**/example.wav", lambda route: held.append(route))
    quiet_page.reload()
    ask(quiet_page, " ", "1")  # The deck is empty again when the service refuses it.
    until(lambda: quiet_page.evaluate("true") and len(held) == 2)
    for route in held:
        route.continue_()
    expect(quiet_page.locator("#facts")).to_contain_text("An example")
    expect(quiet_page.locator("#takes button")).to_have_text(["A"])


def redo(page: Page, second: str, letter: str) -> Page:
    """Make the chosen take anew from a second on, as another one, and wait for it."""
    page.locator("#position").fill(second)
    page.get_by_role("button", name="Redo from here").click()
    expect(page.get_by_role("button", name=f"Take {letter}", pressed=True)).to_be_visible()
    whole(page)
    return page


def test_a_take_made_anew_twice_is_whole(quiet_page: Page, triton: FakeTriton) -> None:
    quiet_page.locator("#file").set_input_files(tune(1))
    ask(quiet_page, "calm piano", "4")
    whole(quiet_page)
    redo(quiet_page, "2", "B")
    file = saved(redo(quiet_page, "4", "C"))  # At the end, all of it is made anew.
    assert soundfile.info(io.BytesIO(file)).duration == 4
    first, _, last = triton.requests
    assert first.prompt_audio is not None and last.prompt_audio is not None
    assert np.array_equal(first.prompt_audio, last.prompt_audio)


STARTS = """
window.starts = [];  // the first sample of each buffer
const { start } = AudioBufferSourceNode.prototype;
AudioBufferSourceNode.prototype.start = function (...when) {
  starts.push(this.buffer.getChannelData(0)[0]);
  start.apply(this, when);
};
"""


def test_a_take_made_anew_is_heard_from_its_beginning(quiet_page: Page, triton: FakeTriton) -> None:
    """Each sample of the fake is greater than the one before."""
    quiet_page.add_init_script(STARTS)
    quiet_page.reload()
    ask(quiet_page, "calm piano", "5")
    whole(quiet_page)
    quiet_page.locator("#position").fill("5")
    expect(paused(quiet_page)).to_be_visible()
    quiet_page.evaluate("starts.length = 0")
    triton.pause = 0.3  # for a second of music
    quiet_page.get_by_role("button", name="Redo from here").click()
    expect(playing(quiet_page)).to_have_attribute("aria-label", "Pause, take B")
    assert quiet_page.evaluate("starts[0]") == 0


def test_a_take_goes_on_before_its_fade(quiet_page: Page, triton: FakeTriton) -> None:
    quiet_page.select_option("#ending", "fade")
    ask(quiet_page, "calm piano", "40")
    whole(quiet_page)
    quiet_page.get_by_role("button", name="Add a section").click()
    expect(quiet_page.get_by_role("button", name="Make from 0:37, as take B")).to_be_visible()
    redo(quiet_page, "38", "B")  # All of it is made anew.
    assert triton.requests[1].start == 0
