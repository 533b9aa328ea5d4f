"""Several tabs of one browser."""

from typing import Any

from playwright.sync_api import Page, Route, expect

from protocol.errors import TooSlow
from tests.browser.page import ask, draw_frame, paused, playing, press, rows, whole
from tests.conftest import until
from tests.gateway.fake_triton import FakeTriton

SLOW = """const listen = BroadcastChannel.prototype.addEventListener;
BroadcastChannel.prototype.addEventListener = function (type, callback) {
  listen.call(this, type, (event) => setTimeout(callback, 3000, event));
};"""  # messages of other tabs arrive late


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


def test_a_song_deleted_in_another_tab_is_no_longer_made(
    quiet_page: Page, triton: FakeTriton
) -> None:
    other = quiet_page.context.new_page()
    other.goto(quiet_page.url)
    triton.pause = 0.3  # for a second of music
    ask(quiet_page, "calm piano", "300")
    expect(playing(quiet_page)).to_be_visible()
    triton.pause = 1
    rows(other).click()
    other.locator("#deck").get_by_role("button", name="Delete").click()
    expect(paused(quiet_page)).to_be_visible()
    until(lambda: triton.running == 0)


def test_a_song_stays_deleted_though_its_tab_hears_late(
    quiet_page: Page, triton: FakeTriton
) -> None:
    other = quiet_page.context.new_page()
    other.goto(quiet_page.url)
    quiet_page.add_init_script(SLOW)
    quiet_page.reload()
    triton.pause = 0.05  # for a second of music: the song is stored several times in three seconds
    ask(quiet_page, "calm piano", "300")
    rows(other).click()
    other.locator("#deck").get_by_role("button", name="Delete").click()
    expect(rows(quiet_page)).to_have_count(0)
    until(lambda: triton.running == 0)
    for tab in (quiet_page, other):
        tab.reload()
        expect(tab.locator("#facts")).to_contain_text("An example")
        expect(rows(tab)).to_have_count(0)
    assert len(triton.requests) == 1


def test_a_star_of_another_tab_stays_while_the_song_is_made(
    quiet_page: Page, triton: FakeTriton
) -> None:
    other = quiet_page.context.new_page()
    other.goto(quiet_page.url)
    triton.pause = 0.3  # for a second of music
    ask(quiet_page, "calm piano", "20")
    rows(other).click()
    other.get_by_role("button", name="Star for calm piano").click()
    other.get_by_role("button", name="Rename calm piano").click()
    other.keyboard.type("my song")
    other.keyboard.press("Enter")
    expect(rows(quiet_page)).to_have_text(["my song"])
    triton.pause = 0
    for tab in (quiet_page, other):
        expect(tab.locator("#state")).to_have_text("Done")
        tab.reload()
        star = tab.get_by_role("button", name="Star for my song")
        expect(star).to_have_attribute("aria-pressed", "true")
    assert len(triton.requests) == 1


def test_a_song_that_another_tab_makes_is_not_swept(quiet_page: Page, triton: FakeTriton) -> None:
    ask(quiet_page, "fast drums", "1")
    whole(quiet_page)
    other = quiet_page.context.new_page()
    other.goto(quiet_page.url)
    triton.pause = 0.3  # for a second of music
    ask(quiet_page, "calm piano", "12")
    expect(rows(other)).to_have_count(2)
    other.get_by_role("button", name="Delete all without a star").click()
    for tab in (other, quiet_page):
        expect(rows(tab)).to_have_text(["calm piano"])
    triton.pause = 0
    whole(quiet_page)


def test_an_error_goes_when_another_tab_makes_the_song(
    quiet_page: Page, triton: FakeTriton
) -> None:
    other = quiet_page.context.new_page()
    other.goto(quiet_page.url)
    triton.refusals = [TooSlow("The song took too long.")]
    ask(quiet_page, "calm piano", "2")
    expect(quiet_page.locator("#error")).to_have_text("The song took too long.")
    rows(other).click()
    other.get_by_role("button", name="Try again").click()
    expect(quiet_page.locator("#state")).to_have_text("Done")
    expect(quiet_page.locator("#error")).to_be_empty()


def test_a_song_without_room_is_made_by_one_tab(quiet_page: Page, triton: FakeTriton) -> None:
    other = quiet_page.context.new_page()
    other.goto(quiet_page.url)
    for tab in (quiet_page, other):
        devtools = tab.context.new_cdp_session(tab)
        quota = {"origin": tab.url.rstrip("/"), "quotaSize": 100_000}
        devtools.send("Storage.overrideQuotaForOrigin", quota)
    ask(quiet_page, "calm piano", "300")
    expect(rows(other)).to_have_count(1)
    whole(quiet_page)
    expect(quiet_page.locator("#kept")).to_contain_text("No room for this song")
    other.wait_for_timeout(1000)
    assert len(triton.requests) == 1
    quiet_page.close()
    rows(other).click()
    expect(other.locator("#state")).to_have_text("Done")
    assert len(triton.requests) == 2  # It has no other way to the song.


def longest(tab: Page) -> float:
    """Seconds of the longest song that is stored."""
    code = (
        "async () => (await (await import('/store.js')).load()).map(({ seconds = 0 }) => seconds)"
    )
    return float(max(tab.evaluate(code)))


def test_a_song_deleted_in_mid_play_falls_silent(quiet_page: Page, triton: FakeTriton) -> None:
    """Another tab makes it, and has stored more of it than this one plays."""
    other = quiet_page.context.new_page()
    other.goto(quiet_page.url)
    triton.pause = 0.3  # for a second of music
    ask(quiet_page, "calm piano", "300")
    rows(other).click()
    other.get_by_role("button", name="Play, take A").click()
    expect(playing(other)).to_be_visible()
    press(other, "l")
    triton.stuck = True
    ask(other, "fast drums", "2")
    before = longest(other)
    until(lambda: longest(other) > before)
    other.get_by_label("Select calm piano").check()
    other.locator("#selection").get_by_role("button", name="Delete").click()
    expect(paused(other)).to_be_visible()


def test_a_song_of_another_tab_changes_no_wish(quiet_page: Page, triton: FakeTriton) -> None:
    """The first take that sounds plays."""
    held: dict[int, Route] = {}  # by seed

    def hold(route: Route) -> None:
        body: Any = route.request.post_data_json
        held[body["seed"]] = route

    ask(quiet_page, "calm piano", "60")
    expect(playing(quiet_page)).to_be_visible()
    whole(quiet_page)
    other = quiet_page.context.new_page()
    other.goto(quiet_page.url)
    quiet_page.route("**/generate", hold)
    quiet_page.select_option("#variations", "2")
    quiet_page.click("#more summary")
    quiet_page.fill("#seed", "7")
    ask(quiet_page, "fast drums", "30")
    until(lambda: quiet_page.evaluate("true") and len(held) == 2)
    other.get_by_role("button", name="Star for calm piano").click()
    star = quiet_page.get_by_role("button", name="Star for calm piano", pressed=True)
    expect(star).to_be_visible()
    draw_frame(quiet_page)
    held[8].continue_()
    expect(playing(quiet_page)).to_have_attribute("aria-label", "Pause, take B")


SLOW_STORE = """
const { put } = IDBObjectStore.prototype;
IDBObjectStore.prototype.put = function (record, ...key) {
  const request = put.call(this, record, ...key);
  const end = performance.now() + (record.isUnfinished ? 0 : 1500);
  const wait = () => {
    if (performance.now() < end) this.count().onsuccess = wait;
  };
  wait();
  return request;
};
"""  # that keeps the end of a song late


def test_a_song_is_done_once_it_is_stored(quiet_page: Page, triton: FakeTriton) -> None:
    quiet_page.add_init_script(SLOW_STORE)
    quiet_page.reload()
    ask(quiet_page, "calm piano", "2")
    expect(quiet_page.locator("#state")).to_have_text("Done")
    quiet_page.reload()
    expect(quiet_page.locator("#title")).to_have_text("calm piano")
    expect(quiet_page.locator("#state")).to_have_text("Done")
    quiet_page.wait_for_timeout(500)
    assert len(triton.requests) == 1
