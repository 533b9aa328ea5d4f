"""The takes on the deck: which one plays, and which one has a star."""

import re
from typing import Any

from playwright.sync_api import Page, Route, expect

from tests.browser.page import ask, draw_frame, paused, playing, position, press, rows, whole
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
