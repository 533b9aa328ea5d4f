"""Several tabs of one browser."""

from playwright.sync_api import Page, expect

from protocol.errors import TooSlow
from tests.browser.page import ask, paused, playing, rows, whole
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
