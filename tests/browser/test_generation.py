"""Songs while they are made: slow, waiting, stopped, broken and unreachable, with a fake Triton."""

import re

from playwright.sync_api import Page, Route, expect

from gateway.contract import Loading
from protocol.errors import TooSlow
from tests.browser.page import ask, paused, playing, position, press, rows, whole
from tests.conftest import until
from tests.gateway.fake_triton import FakeTriton


def test_slow_music_is_gathered_before_it_plays(quiet_page: Page, triton: FakeTriton) -> None:
    triton.pause = 1.6  # for a second of music
    ask(quiet_page, "calm piano", "5")
    expect(quiet_page.locator("#state")).to_contain_text("gathering music")
    stopped = position(quiet_page)
    assert 0 < stopped < 4
    expect(quiet_page.locator("#state")).to_have_text("Generating")
    expect(paused(quiet_page)).to_be_visible()
    assert position(quiet_page) == 5  # the end


def test_a_lost_service_is_the_reason_of_silence(quiet_page: Page) -> None:
    """The connection breaks off after three seconds of music, and the next ones fail."""
    song = {"prompt": "calm piano", "duration": 10, "seed": 7}
    whole_song = quiet_page.request.post(f"{quiet_page.url}generate", data=song)
    beginning = whole_song.body()[: 44 + 3 * 64_000]
    headers = {
        name: value for name, value in whole_song.headers.items() if name != "content-length"
    }
    calls: list[Route] = []

    def answer(route: Route) -> None:
        calls.append(route)
        if len(calls) == 1:
            route.fulfill(headers=headers, body=beginning)
        else:
            route.abort()

    quiet_page.route("**/generate", answer)
    ask(quiet_page, "calm piano", "10")
    until(lambda: position(quiet_page) > 2)

    def is_silent() -> bool:
        before = position(quiet_page)
        quiet_page.wait_for_timeout(300)
        return before == position(quiet_page)

    until(is_silent)
    expect(quiet_page.locator("#state")).to_contain_text("The service went away")
    quiet_page.unroute("**/generate")
    whole(quiet_page)


def test_the_download_of_weights_is_shown(quiet_page: Page, triton: FakeTriton) -> None:
    triton.loading["musicgen-tiny"] = Loading(5_000_000, 20_000_000)
    triton.models.discard("musicgen-tiny")
    ask(quiet_page, "calm piano", "1")
    expect(quiet_page.locator("#state")).to_have_text("Loading the model")
    expect(quiet_page.locator("#left")).to_have_text("5 / 20 MB")
    del triton.loading["musicgen-tiny"]
    whole(quiet_page)


def test_a_waiting_song_shows_its_place(quiet_page: Page, triton: FakeTriton) -> None:
    triton.stuck = True
    ask(quiet_page, "calm piano", "1")
    expect(quiet_page.locator("#state")).to_have_text("Waiting, place 1")
    quiet_page.locator("#position").press("End")  # there are no samples yet
    quiet_page.get_by_role("button", name="Stop").click()
    expect(rows(quiet_page)).to_have_count(0)
    expect(quiet_page.locator("#facts")).to_contain_text("An example")
    until(lambda: triton.running == 0)


def test_a_stopped_song_plays_to_its_end(quiet_page: Page, triton: FakeTriton) -> None:
    triton.pause = 0.8  # for a second of music
    ask(quiet_page, "calm piano", "30")
    expect(playing(quiet_page)).to_be_visible()
    until(lambda: position(quiet_page) > 1)
    quiet_page.get_by_role("button", name="Stop").click()
    whole(quiet_page)
    expect(paused(quiet_page)).to_be_visible()
    assert 1 < position(quiet_page) < 30
    paused(quiet_page).click()
    expect(playing(quiet_page)).to_be_visible()
    until(lambda: 0 < position(quiet_page) < 1)  # from its beginning


def test_a_broken_song_says_why_and_keeps_its_samples(quiet_page: Page, triton: FakeTriton) -> None:
    triton.pause = 0.8  # for a second of music
    ask(quiet_page, "calm piano", "9")
    expect(playing(quiet_page)).to_be_visible()
    triton.cuts = [TooSlow("The song took too long.")]
    expect(quiet_page.locator("#error")).to_have_text("The song took too long.")
    whole(quiet_page)
    expect(quiet_page.locator("#state")).to_have_text(re.compile("Stopped at 0:0[1-8] of 0:09"))
    assert len(triton.requests) == 1  # The page does not ask again.


def test_songs_leave_connections_for_their_progress(quiet_page: Page, triton: FakeTriton) -> None:
    triton.stuck = True
    quiet_page.select_option("#variations", "4")
    for _ in range(2):
        ask(quiet_page, "calm piano", "5")
    expect(quiet_page.locator("#state")).to_have_text("Waiting in this browser, place 1")
    press(quiet_page, "4")
    expect(quiet_page.locator("#state")).to_have_text("Waiting in this browser, place 4")
    assert triton.running == 4
    rows(quiet_page).last.click()
    expect(quiet_page.locator("#state")).to_have_text("Waiting, place 1")
    quiet_page.get_by_role("button", name="Stop").click()
    until(lambda: len(triton.requests) == 5 and triton.running == 4)


def test_an_unreachable_service_is_reported_and_asked_again(quiet_page: Page) -> None:
    quiet_page.context.set_offline(True)
    ask(quiet_page, "calm piano", "1")
    expect(quiet_page.locator("#error")).to_contain_text("can’t be reached")
    quiet_page.context.set_offline(False)
    quiet_page.get_by_role("button", name="Try again").click()
    whole(quiet_page)


NOTE = """window.states = [];
const state = document.querySelector("#state");
new MutationObserver(() => states.push(state.textContent)).observe(state, { childList: true });"""


def test_a_place_in_this_browser_is_one_or_more(quiet_page: Page, triton: FakeTriton) -> None:
    triton.stuck = True
    quiet_page.select_option("#variations", "4")
    for _ in range(2):
        ask(quiet_page, "calm piano", "5")
    expect(quiet_page.locator("#state")).to_have_text("Waiting in this browser, place 1")
    quiet_page.evaluate(NOTE)
    for box in quiet_page.get_by_role("checkbox", name="Select").all()[4:]:
        box.check()
    quiet_page.locator("#selection").get_by_role("button", name="Delete").click()
    expect(quiet_page.locator("#state")).to_have_text("Waiting, place 1")
    assert not [text for text in quiet_page.evaluate("states") if "place -" in text]


def test_two_clicks_make_a_song_once(quiet_page: Page, triton: FakeTriton) -> None:
    triton.refusals = [TooSlow("The song took too long.")]
    ask(quiet_page, "calm piano", "2")
    quiet_page.get_by_role("button", name="Try again").dblclick()
    whole(quiet_page)
    expect(quiet_page.locator("#state")).to_have_text("Done")
    quiet_page.wait_for_timeout(500)
    assert len(triton.requests) == 2


def test_a_song_of_other_weights_is_no_longer_made(quiet_page: Page, triton: FakeTriton) -> None:
    triton.pause = 0.3  # for a second of music
    ask(quiet_page, "calm piano", "300")
    until(lambda: position(quiet_page) > 3)  # By now some of it is stored.
    triton.revision = "ba9876543210"
    triton.pause = 3
    quiet_page.reload()
    expect(quiet_page.locator("#error")).to_contain_text("weights have changed")
    until(lambda: quiet_page.evaluate("true") and triton.running == 0)
