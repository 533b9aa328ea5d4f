"""The rows of the songs that the browser keeps, and the files of songs."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Page, expect

from tests.browser.page import ask, draw_frame, playing, rows, saved, whole
from tests.conftest import until
from tests.gateway.fake_triton import FakeTriton


@pytest.fixture
def shelf(quiet_page: Page) -> Page:
    """The page with three songs."""
    for prompt in ("calm piano", "fast drums", "calm flute"):
        ask(quiet_page, prompt, "1")
        whole(quiet_page)
    expect(rows(quiet_page)).to_have_text(["calm flute", "fast drums", "calm piano"])
    return quiet_page


def star(page: Page, name: str) -> None:
    page.get_by_role("button", name=f"Star for {name}").click()


def test_a_row_opens_its_song_with_the_other_takes(shelf: Page) -> None:
    shelf.select_option("#variations", "2")
    ask(shelf, "sad organ", "1")
    expect(rows(shelf)).to_have_count(5)
    expect(shelf.locator("#songs .time")).to_have_text(["0:01", "B · 0:01", *3 * ["0:01"]])
    expect(shelf.get_by_role("button", name="Play sad organ, B")).to_be_visible()
    rows(shelf).nth(2).click()
    expect(shelf.locator("#title")).to_have_text("calm flute")
    expect(shelf.locator("#takes button")).to_have_count(1)
    rows(shelf).nth(1).click()
    expect(shelf.locator("#title")).to_have_text("sad organ")
    second = shelf.get_by_role("button", name="Take B", exact=True)
    expect(second).to_have_attribute("aria-pressed", "true")
    expect(shelf.locator("#takes button")).to_have_count(2)


def test_a_row_plays_its_song(shelf: Page) -> None:
    expect(playing(shelf)).to_be_hidden()
    shelf.get_by_role("button", name="Play fast drums").click()
    expect(playing(shelf)).to_be_visible()
    expect(shelf.locator("#playing")).to_have_text("fast drums")


def test_search_and_stars_choose_rows(shelf: Page) -> None:
    shelf.fill("#search", "Tiny CALM")
    expect(rows(shelf)).to_have_text(["calm flute", "calm piano"])
    star(shelf, "calm piano")
    shelf.click("#starred")
    expect(rows(shelf)).to_have_text(["calm piano"])
    shelf.fill("#search", "brass")
    expect(shelf.get_by_text("No song matches.")).to_be_visible()
    shelf.reload()
    star_button = shelf.get_by_role("button", name="Star for calm piano")
    expect(star_button).to_have_attribute("aria-pressed", "true")


def stored_names(page: Page) -> list[str]:
    code = "async () => (await (await import('/store.js')).load()).map(({ name }) => name ?? '')"
    names: list[str] = page.evaluate(code)
    return names


def test_a_name_replaces_the_prompt_until_it_is_empty(shelf: Page) -> None:
    name = "Étude n° 1"
    rename = shelf.get_by_role("button", name="Rename fast drums")
    rename.click()
    shelf.keyboard.type("not this")
    shelf.keyboard.press("Escape")
    expect(rename).to_be_focused()
    rename.click()
    shelf.keyboard.type(name)
    shelf.keyboard.press("Enter")
    until(lambda: name in stored_names(shelf))
    shelf.reload()
    expect(rows(shelf)).to_have_text(["calm flute", name, "calm piano"])
    rows(shelf).nth(1).click()
    expect(shelf.locator("#title")).to_have_text(name)
    shelf.click("#save")
    with shelf.expect_download() as download:
        shelf.click("#formats [value=wav]")
    assert download.value.suggested_filename == "Étude-n°-1.wav"
    shelf.get_by_role("button", name=f"Rename {name}").click()
    shelf.keyboard.press("Delete")
    shelf.keyboard.press("Enter")
    expect(rows(shelf).nth(1)).to_have_text("fast drums")


def test_selected_songs_are_one_zip(shelf: Page) -> None:
    for name in ("calm flute", "calm piano"):
        shelf.get_by_label(f"Select {name}").check()
    expect(shelf.locator("#count")).to_have_text("2 selected")
    shelf.click("#language")
    expect(shelf.locator("#count")).to_have_text("Sélection\u00a0: 2")
    shelf.click("#language")
    with shelf.expect_download() as download:
        shelf.get_by_role("button", name="Save as ZIP").click()
    with zipfile.ZipFile(Path(download.value.path())) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            "1 musicgen-tiny-calm-flute.wav",
            "2 musicgen-tiny-calm-piano.wav",
        ]
        for file in archive.namelist():
            assert soundfile.info(io.BytesIO(archive.read(file))).duration == 1


def test_all_without_a_star_are_deleted_and_come_back(shelf: Page) -> None:
    star(shelf, "fast drums")
    other = shelf.context.new_page()
    other.goto(shelf.url)
    expect(rows(other)).to_have_count(3)
    shelf.get_by_role("button", name="Delete all without a star").click()
    for page in (shelf, other):
        expect(rows(page)).to_have_text(["fast drums"])
    expect(shelf.locator("#notice")).to_contain_text("Deleted 2 songs")
    shelf.get_by_role("button", name="Undo").click()
    for page in (shelf, other):
        expect(rows(page)).to_have_text(["calm flute", "fast drums", "calm piano"])
    shelf.reload()
    expect(rows(shelf)).to_have_count(3)


def test_a_deleted_song_can_come_back_for_ten_seconds(shelf: Page) -> None:
    shelf.clock.install()
    shelf.get_by_label("Select calm piano").check()
    shelf.locator("#selection").get_by_role("button", name="Delete").click()
    undo = shelf.get_by_role("button", name="Undo")
    shelf.clock.fast_forward(9_000)
    expect(undo).to_be_visible()
    undo.focus()  # The time stands still.
    shelf.clock.fast_forward(9_000)
    expect(undo).to_be_visible()
    shelf.focus("#search")
    shelf.clock.fast_forward(11_000)
    expect(undo).to_be_hidden()
    shelf.reload()
    expect(rows(shelf)).to_have_text(["calm flute", "fast drums"])


def test_undo_puts_the_song_back_on_the_deck(shelf: Page) -> None:
    take = shelf.get_by_role("button", name="Take A", exact=True)
    rows(shelf).nth(1).click()
    shelf.locator("#deck").get_by_role("button", name="Delete").click()
    expect(shelf.locator("#title")).to_have_text("calm flute")
    shelf.get_by_role("button", name="Undo").click()
    expect(shelf.locator("#title")).to_have_text("fast drums")
    expect(take).to_be_focused()
    shelf.get_by_role("button", name="Add a section").click()
    shelf.get_by_role("button", name="Discard").click()
    expect(take).to_be_focused()


def test_undo_puts_a_take_back_beside_the_chosen_one(shelf: Page) -> None:
    shelf.select_option("#variations", "2")
    ask(shelf, "sad organ", "1")
    whole(shelf)
    expect(shelf.locator("#takes button")).to_have_text(["A", "B"])
    shelf.get_by_role("button", name="Take A", exact=True).click()
    shelf.get_by_label("Select sad organ").nth(1).check()
    shelf.locator("#selection").get_by_role("button", name="Delete").click()
    expect(shelf.locator("#takes button")).to_have_text(["A"])
    shelf.get_by_role("button", name="Undo").click()
    expect(shelf.locator("#takes button")).to_have_text(["A", "B"])


def test_a_song_deleted_while_it_is_made_comes_back_as_it_was(
    quiet_page: Page, triton: FakeTriton
) -> None:
    triton.pause = 0.3  # for a second of music
    ask(quiet_page, "calm piano", "60")
    expect(playing(quiet_page)).to_be_visible()
    quiet_page.get_by_label("Select calm piano").check()
    quiet_page.locator("#selection").get_by_role("button", name="Delete").click()
    until(lambda: triton.running == 0)
    expect(rows(quiet_page)).to_have_count(0)
    quiet_page.get_by_role("button", name="Undo").click()
    rows(quiet_page).first.click()
    expect(quiet_page.locator("#state")).to_contain_text("Stopped at 0:0")
    quiet_page.reload()
    expect(rows(quiet_page)).to_have_text(["calm piano"])


UNDO = """async () => {
  document.querySelector("#remove").click();
  let undo = null;
  while (!undo) {
    await new Promise((resolve) => setTimeout(resolve));
    undo = document.querySelector("#notice button");
  }
  undo.click();
}"""


def test_a_waiting_song_deleted_for_a_moment_is_there(quiet_page: Page, triton: FakeTriton) -> None:
    triton.stuck = True
    quiet_page.select_option("#variations", "4")
    for _ in range(2):
        ask(quiet_page, "calm piano", "5")
    expect(quiet_page.locator("#state")).to_have_text("Waiting in this browser, place 1")
    quiet_page.evaluate(UNDO)
    expect(quiet_page.locator("#state")).to_have_text("No music was made")
    quiet_page.wait_for_timeout(1000)  # The browser looks for a connection twice a second.
    expect(rows(quiet_page)).to_have_count(8)


def test_the_focus_stays_in_its_row_while_music_arrives(shelf: Page, triton: FakeTriton) -> None:
    triton.pause = 0.1
    shelf.get_by_label("Select calm piano").focus()
    shelf.evaluate("document.querySelector('#form').requestSubmit()")
    whole(shelf)
    expect(rows(shelf)).to_have_count(4)
    draw_frame(shelf)
    expect(shelf.get_by_label("Select calm piano")).to_be_focused()


def test_formats_are_made_of_the_song_that_is_there(shelf: Page, triton: FakeTriton) -> None:
    wav, _ = soundfile.read(io.BytesIO(saved(shelf)))
    for format in ("flac", "ogg", "mp3"):
        file = saved(shelf, format)
        assert b"calm flute" in file and b"trainedAlgorithmicMedia" in file
        samples, rate = soundfile.read(io.BytesIO(file))
        assert len(samples) / rate == 1
        assert format != "flac" or np.array_equal(samples, wav)
    assert len(triton.requests) == 3  # of the songs


def test_a_file_that_cannot_be_made_says_why(shelf: Page) -> None:
    shelf.context.set_offline(True)
    shelf.click("#save")
    shelf.click("#formats [value=mp3]")
    expect(shelf.locator("#notice")).to_contain_text("The service can’t be reached")
    assert soundfile.info(io.BytesIO(saved(shelf))).duration == 1  # a WAV needs no service


def test_a_song_without_room_says_so_and_can_be_saved(quiet_page: Page) -> None:
    devtools = quiet_page.context.new_cdp_session(quiet_page)
    quota = {"origin": quiet_page.url.rstrip("/"), "quotaSize": 100_000}
    devtools.send("Storage.overrideQuotaForOrigin", quota)
    ask(quiet_page, "calm piano", "300")
    whole(quiet_page)
    expect(quiet_page.locator("#kept")).to_contain_text("No room for this song")
    assert soundfile.info(io.BytesIO(saved(quiet_page))).duration == 300
    quiet_page.get_by_role("button", name="Français").click()
    expect(quiet_page.locator("#kept")).to_contain_text("Plus de place")
    quiet_page.click("#remove")
    expect(quiet_page.locator("#kept")).to_be_empty()


def test_a_browser_that_stores_nothing_says_so(quiet_page: Page) -> None:
    quiet_page.add_init_script("delete IDBFactory.prototype.open")
    quiet_page.reload()
    ask(quiet_page, "calm piano", "1")
    whole(quiet_page)
    expect(quiet_page.locator("#kept")).to_contain_text("This browser keeps no songs")
    assert soundfile.info(io.BytesIO(saved(quiet_page))).duration == 1


LETTERS = """async (takes) => {
  const { letterOf } = await import("/takes.js");
  return takes.map((take) => letterOf({ record: { take } }));
}"""


def test_takes_behind_z_have_letters_with_numbers(quiet_page: Page) -> None:
    assert quiet_page.evaluate(LETTERS, [0, 25, 26, 51, 52]) == ["A", "Z", "A2", "Z2", "A3"]


GIVE = """async () => {
  const { save } = await import("/store.js");
  const blob = await (await fetch("/sounds/example.wav")).blob();
  for (const prompt of ["one", "two"]) {
    await save({ id: prompt, at: prompt.length, blob, request: { prompt, duration: 8 } });
  }
}"""


def test_stored_songs_without_a_group_are_songs_of_their_own(quiet_page: Page) -> None:
    quiet_page.evaluate(GIVE)
    quiet_page.reload()
    expect(rows(quiet_page)).to_have_count(2)
    expect(quiet_page.locator("#takes button")).to_have_text(["A"])
