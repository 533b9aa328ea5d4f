"""Steering: words, a point and a line of text change a song while it plays."""

import re

from playwright.sync_api import Page, Route, expect

from protocol.errors import TooManyChanges
from tests.browser.page import drag, press, steer, whole
from tests.conftest import until
from tests.gateway.fake_triton import FakeTriton


def test_a_line_of_text_steers_the_song(quiet_page: Page, triton: FakeTriton) -> None:
    triton.pause = 0.4  # for a second of music
    steer(quiet_page, "30")
    assert triton.requests[0].pace == "playback"
    quiet_page.get_by_label("Change it to").fill("fast drums")
    quiet_page.get_by_label("Change it to").press("Enter")
    expect(quiet_page.locator("#heard")).to_have_text(re.compile("“fast drums” sounds in [1-9] s"))
    expect(quiet_page.locator("#mark")).to_be_visible()
    expect(quiet_page.locator(".block button")).to_have_text(["calm piano", "fast drums"])
    triton.pause = 0
    whole(quiet_page)
    quiet_page.reload()  # what is kept has the changes
    expect(quiet_page.locator(".block button")).to_have_text(["calm piano", "fast drums"])


def test_the_point_and_the_sliders_weigh_words(quiet_page: Page, triton: FakeTriton) -> None:
    triton.pause = 0.4
    steer(quiet_page, "40")
    drag(quiet_page, quiet_page.locator("#field"), 0.5, 0.75)
    until(lambda: triton.changes)
    quiet_page.get_by_text("Words", exact=True).click()
    sliders = quiet_page.locator("#weights [type=range]")
    assert float(sliders.nth(1).input_value()) > float(sliders.nth(0).input_value())
    for slider in sliders.all():
        slider.fill("0")
    expect(quiet_page.locator("#puck")).to_have_attribute("style", "left: 50%; top: 50%;")
    for slider, value in zip(sliders.all(), ["0", "0", "0", "50"], strict=True):
        slider.fill(value)
    until(lambda: triton.changes[-1] == {"prompt": "epic brass"})
    quiet_page.get_by_label("Word 4").fill("loud organ")
    quiet_page.get_by_label("Word 4").press("Enter")
    until(lambda: triton.changes[-1] == {"prompt": "loud organ"})


def test_a_slow_machine_turns_steering_off(quiet_page: Page, triton: FakeTriton) -> None:
    triton.pause = 1.3
    steer(quiet_page, "30")
    expect(quiet_page.locator("#heard")).to_contain_text("slower than it plays")
    expect(quiet_page.get_by_label("Change it to")).to_be_disabled()


def test_a_refused_change_says_why(quiet_page: Page, triton: FakeTriton) -> None:
    triton.pause = 0.4
    steer(quiet_page, "30")
    triton.change_errors = [TooManyChanges("Wait a moment.")]
    quiet_page.get_by_label("Change it to").fill("fast drums")
    quiet_page.get_by_label("Change it to").press("Enter")
    expect(quiet_page.locator("#change")).to_have_text("Wait a moment.")
    expect(quiet_page.get_by_label("Change it to")).to_have_value("fast drums")
    expect(quiet_page.locator(".block")).to_have_count(1)


def test_of_many_quick_changes_the_last_one_counts(quiet_page: Page, triton: FakeTriton) -> None:
    triton.pause = 0.4
    steer(quiet_page, "60")
    line = quiet_page.get_by_label("Change it to")
    for number in range(10):
        line.fill(f"drums {number}")
        line.press("Enter")
    until(lambda: triton.changes and triton.changes[-1] == {"prompt": "drums 9"})
    assert len(triton.changes) < 10
    expect(line).to_have_value("")
    expect(quiet_page.locator("#change")).to_be_empty()


def test_a_change_is_for_the_take_that_was_chosen(quiet_page: Page, triton: FakeTriton) -> None:
    triton.pause = 0.4
    triton.change_delay = 1
    quiet_page.select_option("#variations", "2")
    steer(quiet_page, "60")
    press(quiet_page, "1")
    line = quiet_page.get_by_label("Change it to")
    expect(line).to_be_enabled()
    for words in ("fast drums", "epic brass"):  # The second one waits for the first one.
        line.fill(words)
        line.press("Enter")
    press(quiet_page, "2")
    until(lambda: len(triton.changes) == 2)
    press(quiet_page, "1")
    expect(quiet_page.locator(".block button").last).to_have_text("epic brass")
    press(quiet_page, "2")
    expect(quiet_page.locator(".block button")).to_have_text(["calm piano"])


def test_a_speed_that_is_not_known_is_not_slow(quiet_page: Page, triton: FakeTriton) -> None:
    """The service has none while it resumes a song."""
    hidden: list[bool] = []

    def hide_speed(route: Route) -> None:
        response = route.fetch()
        progress = {**response.json(), "steps_per_second": None}
        route.fulfill(response=response, json=progress)
        hidden.append((progress.get("seconds") or 0) > 4)

    triton.pause = 0.4
    quiet_page.route("**/generations/*", hide_speed)
    steer(quiet_page, "30")
    until(lambda: quiet_page.evaluate("true") and hidden.count(True) > 1)
    expect(quiet_page.locator("#heard")).to_contain_text("Drag the point")
    expect(quiet_page.get_by_label("Change it to")).to_be_enabled()
