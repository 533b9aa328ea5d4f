"""The page in a real Chromium, against the running stack and its musicgen-tiny."""

import io
import json
import os
import re
import signal
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from gateway.access import read_keys
from gateway.contract import Loading
from gateway.settings import Settings
from tests.conftest import Stack, until
from tests.gateway.conftest import running
from tests.gateway.fake_triton import FakeTriton
from tests.prometheus import total

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SONG_MS = 120_000  # A song of 2 s, the model's first load included.

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium_path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser, stack_url: str) -> Iterator[OpenPage]:
    """Opens the page in a fresh profile of a locale, at a width in pixels."""
    contexts = []

    def open_in(locale: str = "en-US", width: int = 900, script: str = "") -> Page:
        context = browser.new_context(locale=locale, viewport={"width": width, "height": 900})
        context.add_init_script(script)
        contexts.append(context)
        page = context.new_page()
        page.goto(stack_url)
        expect(page.locator("#model")).to_have_value("musicgen-tiny")
        return page

    yield open_in
    for context in contexts:
        context.close()


def ask(page: Page, prompt: str, seconds: str) -> None:
    page.fill("#prompt", prompt)
    page.fill("#duration", seconds)
    page.press("#duration", "Control+Enter")


def song(page: Page) -> Locator:
    """The latest."""
    return page.locator("article").first


def whole(page: Page, timeout: float = SONG_MS) -> Locator:
    """The latest, once all of it is there."""
    expect(song(page).get_by_role("button", name=re.compile("Download|Télécharger"))).to_be_visible(
        timeout=timeout
    )
    return song(page)


def saved(page: Page, format: str = "wav") -> bytes:
    song(page).locator("[data-part=format]").select_option(format)
    with page.expect_download(timeout=SONG_MS) as download:
        song(page).get_by_role("button", name="Download").click()
    assert download.value.suggested_filename.endswith(f".{format}")
    return Path(download.value.path()).read_bytes()


def position(page: Page) -> float:
    return float(song(page).get_by_role("slider").get_attribute("aria-valuenow") or "nan")


def stands(page: Page, seconds: float) -> bool:
    return abs(position(page) - seconds) < 0.1


SPY = """
window.blocks = [];  // each once
window.starts = [];
const { start } = AudioBufferSourceNode.prototype;
AudioBufferSourceNode.prototype.start = function (when, offset = 0) {
  const { buffer, context: { currentTime: now, sampleRate: rate } } = this;
  if (!blocks.includes(buffer)) blocks.push(buffer);
  starts.push({ when, end: when + buffer.duration - offset, now, rate });
  start.call(this, when, offset);
};
window.heard = () => blocks.map((block) => [...block.getChannelData(0)]);
"""
FADE = 0.01  # seconds


def test_what_is_played_is_the_file_without_a_gap(open_page: OpenPage) -> None:
    page = open_page(script=SPY)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    ask(page, "calm piano", "6")
    whole(page)
    expect(song(page).locator(".play[data-state=play]")).to_be_visible(timeout=SONG_MS)
    starts = page.evaluate("starts")
    assert len(starts) > 1  # it played before all of it was there
    for before, after in pairwise(starts):
        assert after["rate"] == 32_000
        waited = after["when"] > before["end"] + 1e-6
        assert waited or after["when"] == pytest.approx(before["end"], abs=1e-6)
        assert not waited or after["now"] > before["end"] - FADE  # there was nothing to play
    heard = np.concatenate([np.array(block) for block in page.evaluate("heard()")])
    file, rate = soundfile.read(io.BytesIO(saved(page)), dtype="int16")
    assert rate == 32_000 and file.shape == (6 * 32_000,)
    assert np.array_equal(np.rint(heard * 32_767), file)
    assert np.abs(file).max() > 1000  # it is heard
    assert complaints == []


def test_who_seeks_hears_what_is_there(open_page: OpenPage) -> None:
    page = open_page()
    ask(page, "calm piano", "8")
    whole(page)
    song(page).locator(".play[data-state=pause]").click()
    wave = song(page).get_by_role("slider")
    wave.click()  # in the middle
    until(partial(stands, page, 4))
    for key, expected in {"ArrowRight": 5, "ArrowLeft": 4, "End": 8, "Home": 0}.items():
        wave.press(key)
        until(partial(stands, page, expected))
    wave.press(" ")
    expect(song(page).locator(".play[data-state=pause]")).to_be_visible()
    page.wait_for_timeout(700)
    assert 0.3 < position(page) < 2


def test_a_part_is_repeated(open_page: OpenPage) -> None:
    page = open_page()
    ask(page, "calm piano", "4")
    whole(page)
    wave = song(page).get_by_role("slider")
    box = wave.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20, steps=5)
    page.mouse.up()
    expect(song(page).get_by_role("button", name="Loop")).to_have_attribute("aria-pressed", "true")
    for _ in range(12):
        page.wait_for_timeout(200)
        assert 0.9 <= position(page) <= 2.1
    wave.press("Escape")
    expect(song(page).get_by_role("button", name="Loop")).to_have_attribute("aria-pressed", "false")


def test_each_format_is_the_same_song(open_page: OpenPage) -> None:
    page = open_page()
    ask(page, "calm piano", "2")
    whole(page)
    wav, _ = soundfile.read(io.BytesIO(saved(page)))
    flac, _ = soundfile.read(io.BytesIO(saved(page, "flac")))
    assert np.array_equal(wav, flac)
    for format in ("ogg", "mp3"):
        other, rate = soundfile.read(io.BytesIO(saved(page, format)))
        assert len(other) / rate == pytest.approx(2, abs=0.1)


def test_songs_outlive_a_reload_until_they_are_deleted(open_page: OpenPage) -> None:
    page = open_page()
    for prompt in ("calm piano", "fast drums"):
        ask(page, prompt, "1")
        whole(page)
    file = saved(page)
    page.reload()
    expect(page.locator("article h2")).to_have_text(["fast drums", "calm piano"])
    assert saved(page) == file
    song(page).get_by_role("button", name="Play").click()
    expect(song(page).locator(".play[data-state=pause]")).to_be_visible()
    song(page).get_by_role("button", name="Delete").click()
    expect(page.locator("article")).to_have_count(1)
    page.reload()
    expect(page.locator("article h2")).to_have_text(["calm piano"])
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete all").click()
    expect(page.locator("article")).to_have_count(0)
    page.reload()
    expect(page.locator("#model")).to_have_value("musicgen-tiny")
    expect(page.locator("article")).to_have_count(0)


def test_variations_have_seeds_of_their_own_and_are_heard_at_the_same_position(
    open_page: OpenPage,
) -> None:
    page = open_page()
    page.click("#more summary")
    page.select_option("#variations", "2")
    page.fill("#seed", "7")
    ask(page, "calm piano", "8")
    songs = page.locator("article")
    expect(songs.locator("[data-part=facts]")).to_contain_text(["Seed 7", "Seed 8"])
    expect(songs.get_by_role("button", name="Download")).to_have_count(2, timeout=SONG_MS)
    songs.nth(0).get_by_role("slider").press("Home")
    songs.nth(0).get_by_role("slider").press("PageUp")
    songs.nth(1).locator(".play").click()
    heard = songs.nth(1).get_by_role("slider")
    page.wait_for_timeout(100)
    assert 4.9 < float(heard.get_attribute("aria-valuenow") or "nan") < 6


def test_a_song_goes_on_from_where_one_listens(open_page: OpenPage) -> None:
    page = open_page()
    ask(page, "calm piano", "4")
    whole(page)
    first, _ = soundfile.read(io.BytesIO(saved(page)))
    song(page).locator(".play[data-state=pause]").click()
    song(page).get_by_role("slider").press("Home")
    song(page).get_by_role("slider").press("ArrowRight")
    song(page).get_by_role("slider").press("ArrowRight")
    song(page).get_by_role("button", name="Continue from here").click()
    expect(page.locator("#audio")).to_contain_text("0:02")
    page.fill("#duration", "5")
    page.press("#duration", "Control+Enter")
    expect(page.locator("article")).to_have_count(2)
    whole(page)
    expect(song(page).locator("[data-part=facts]")).to_contain_text("continued")
    longer, _ = soundfile.read(io.BytesIO(saved(page)))
    assert len(longer) == 5 * 32_000
    beginning = np.corrcoef(first[: 2 * 32_000], longer[: 2 * 32_000])[0, 1]
    assert beginning > 0.5  # the codec's own hearing of it


def test_a_link_holds_the_settings(open_page: OpenPage) -> None:
    page = open_page()
    page.click("#more summary")
    page.fill("#temperature", "0.8")
    page.fill("#seed", "123")
    ask(page, "calm piano & drums", "2")
    whole(page)
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    song(page).get_by_role("button", name="Copy as curl").click()
    command = page.evaluate("copied")
    assert json.loads(re.search(r"-d '(.*)'", command)[1])["seed"] == 123  # type: ignore[index]
    song(page).get_by_role("button", name="Copy link").click()
    link = page.evaluate("copied")
    page.fill("#prompt", "something else")
    page.goto(link)  # in the open page
    expect(page.locator("#prompt")).to_have_value("calm piano & drums")
    page.goto("about:blank")
    page.goto(link)
    for field, value in {
        "prompt": "calm piano & drums",
        "temperature": "0.8",
        "seed": "123",
    }.items():
        expect(page.locator(f"#{field}")).to_have_value(value)


def test_a_gateway_that_dies_amid_a_song_is_waited_for(open_page: OpenPage, stack: Stack) -> None:
    page = open_page()
    page.click("#more summary")
    page.fill("#seed", "5")
    ask(page, "calm piano", "15")
    expect(song(page).locator(".play[data-state=pause]")).to_be_visible(timeout=SONG_MS)
    os.kill(int(until(lambda: stack.pid("-m gateway"))), signal.SIGKILL)
    expect(song(page).get_by_role("status")).to_have_text(re.compile("went away"))
    whole(page)
    broken = saved(page)
    song(page).get_by_role("button", name="Delete").click()
    ask(page, "calm piano", "15")
    whole(page)
    assert saved(page) == broken


@pytest.mark.parametrize(("locale", "word"), [("en-GB", "Generate"), ("fr-CA", "Générer")])
def test_the_page_speaks_the_browsers_language(open_page: OpenPage, locale: str, word: str) -> None:
    page = open_page(locale)
    expect(page.locator("#generate")).to_have_text(word)
    expect(page.locator("html")).to_have_attribute("lang", locale[:2])


def test_a_chosen_language_outlives_a_reload(open_page: OpenPage) -> None:
    page = open_page("en-US")
    page.get_by_role("button", name="Français").click()
    page.reload()
    expect(page.locator("#generate")).to_have_text("Générer")


@pytest.mark.parametrize(
    ("prompt", "seconds", "field"), [(" ", "2", "prompt"), ("calm piano", "99999", "duration")]
)
def test_a_refused_value_is_explained_beside_its_field(
    open_page: OpenPage, prompt: str, seconds: str, field: str
) -> None:
    page = open_page()
    ask(page, prompt, seconds)
    expect(page.locator(f"#{field}")).to_have_attribute("aria-invalid", "true")
    expect(page.locator(f"#{field}")).to_be_focused()
    expect(page.locator(f"#{field}-error")).not_to_be_empty()
    expect(page.locator("#failure")).to_be_hidden()


def test_who_cancels_keeps_the_server_free(open_page: OpenPage, stack_url: str) -> None:
    page = open_page()
    ask(page, "calm piano", "300")
    expect(song(page).locator(".play[data-state=pause]")).to_be_visible(timeout=SONG_MS)
    song(page).get_by_role("button", name="Cancel").click()
    expect(song(page).get_by_role("status")).to_have_text("Cancelled")
    expect(song(page).locator(".play")).to_be_enabled()  # what there is of it
    until(lambda: in_flight(stack_url) == 0)


def in_flight(url: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        return total(answer.read().decode(), "gateway_songs_in_flight")


def test_a_phone_shows_the_page_without_sideways_scrolling(open_page: OpenPage) -> None:
    page = open_page("fr-FR", width=360)
    assert page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.fixture
def triton() -> FakeTriton:
    """Sings one note that grows, as fast as it is told to."""
    return FakeTriton("musicgen-tiny")


@pytest.fixture
def quiet_page(browser: Browser, triton: FakeTriton) -> Iterator[Page]:
    """Of a gateway before that Triton."""
    with (
        running(Settings(poll_interval=0.01), triton) as address,
        browser.new_context(locale="en-US") as context,
    ):
        page = context.new_page()
        page.goto(address)
        expect(page.locator("#model")).to_have_value("musicgen-tiny")
        yield page


def test_what_comes_slower_than_it_plays_is_gathered_first(
    quiet_page: Page, triton: FakeTriton
) -> None:
    triton.pause = 1.6  # for a second of music
    ask(quiet_page, "calm piano", "5")
    expect(song(quiet_page).get_by_role("status")).to_contain_text("gathering music", timeout=9000)
    stopped = position(quiet_page)
    assert 0 < stopped < 4
    expect(song(quiet_page).get_by_role("status")).to_have_text("Generating", timeout=9000)
    expect(song(quiet_page).locator(".play[data-state=play]")).to_be_visible(timeout=9000)
    assert position(quiet_page) == 5  # and then to the end


def test_the_download_of_a_models_weights_is_shown(quiet_page: Page, triton: FakeTriton) -> None:
    triton.loading["musicgen-tiny"] = Loading(5_000_000, 20_000_000)
    triton.held.discard("musicgen-tiny")
    ask(quiet_page, "calm piano", "1")
    expect(song(quiet_page).get_by_role("status")).to_have_text("Loading the model")
    expect(song(quiet_page).locator("[data-part=left]")).to_have_text("5 MB / 20 MB")
    del triton.loading["musicgen-tiny"]
    whole(quiet_page)


def test_who_waits_is_told_their_place(quiet_page: Page, triton: FakeTriton) -> None:
    triton.stuck = True
    ask(quiet_page, "calm piano", "1")
    expect(song(quiet_page).get_by_role("status")).to_have_text("Waiting, place 1")
    song(quiet_page).get_by_role("slider").press(" ")  # there is nothing to play yet
    song(quiet_page).get_by_role("button", name="Cancel").click()
    expect(quiet_page.locator("article")).to_have_count(0)
    until(lambda: triton.running == 0)


def test_what_is_there_of_a_cancelled_song_plays_to_its_end(
    quiet_page: Page, triton: FakeTriton
) -> None:
    triton.pause = 0.8  # for a second of music
    ask(quiet_page, "calm piano", "30")
    expect(song(quiet_page).locator(".play[data-state=pause]")).to_be_visible()
    quiet_page.wait_for_timeout(2000)
    song(quiet_page).get_by_role("button", name="Cancel").click()
    expect(song(quiet_page).get_by_role("status")).to_have_text("Cancelled")
    expect(song(quiet_page).locator(".play[data-state=play]")).to_be_visible(timeout=20_000)
    assert 1 < position(quiet_page) < 30
    song(quiet_page).locator(".play").click()
    expect(song(quiet_page).locator(".play[data-state=pause]")).to_be_visible()
    until(lambda: 0 < position(quiet_page) < 1)  # from its beginning again


def test_other_weights_do_not_pass_for_the_same_song(quiet_page: Page, triton: FakeTriton) -> None:
    ask(quiet_page, "calm piano", "1")
    whole(quiet_page)
    song(quiet_page).locator("[data-part=format]").select_option("flac")
    triton.revision = "ba9876543210"
    song(quiet_page).get_by_role("button", name="Download").click()
    expect(song(quiet_page).get_by_role("alert")).to_contain_text("weights have changed")


def test_a_service_out_of_reach_is_told_and_may_be_asked_again(quiet_page: Page) -> None:
    quiet_page.context.set_offline(True)
    ask(quiet_page, "calm piano", "1")
    expect(song(quiet_page).get_by_role("alert")).to_contain_text("can’t be reached")
    quiet_page.context.set_offline(False)
    song(quiet_page).get_by_role("button", name="Try again").click()
    whole(quiet_page)
    expect(quiet_page.locator("article")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(quiet_page: Page, scheme: Literal["light", "dark"]) -> None:
    quiet_page.emulate_media(color_scheme=scheme)
    quiet_page.click("#more summary")
    ask(quiet_page, "calm piano", "1")
    whole(quiet_page)
    ask(quiet_page, " ", "1")
    expect(quiet_page.locator("#prompt-error")).not_to_be_empty()
    assert Axe().run(quiet_page).response["violations"] == []


GOOD_KEY, OTHER_KEY = "a-key-of-16-letters", "another-of-16-letters"


@pytest.fixture
def guarded_url(triton: FakeTriton) -> Iterator[str]:
    """Of a gateway that asks for a key."""
    settings = Settings(api_keys=read_keys(GOOD_KEY), poll_interval=0.01)
    with running(settings, triton) as address:
        yield address


@pytest.fixture
def guarded_page(browser: Browser, guarded_url: str) -> Iterator[Page]:
    with browser.new_context(locale="fr-FR") as context:
        page = context.new_page()
        page.goto(guarded_url)
        yield page


def give(page: Page, key: str) -> None:
    page.get_by_role("dialog").get_by_label("Ce service demande une clé").fill(key)
    page.get_by_role("button", name="Continuer").click()


def test_who_gives_a_key_hears_music_and_is_not_asked_again_in_this_tab(
    guarded_page: Page,
) -> None:
    give(guarded_page, GOOD_KEY)
    for _ in range(2):
        expect(guarded_page.locator("#model")).to_have_value("musicgen-tiny")
        expect(guarded_page.get_by_role("dialog")).to_be_hidden()
        ask(guarded_page, "calm piano", "2")
        whole(guarded_page)
        guarded_page.reload()
    assert guarded_page.evaluate("localStorage.getItem('key')") is None


def test_a_wrong_key_is_told_and_another_can_be_given(guarded_page: Page) -> None:
    give(guarded_page, OTHER_KEY)
    expect(guarded_page.locator("#wrong")).to_have_text("Cette clé est inconnue ici.")
    give(guarded_page, GOOD_KEY)
    expect(guarded_page.get_by_role("dialog")).to_be_hidden()
    expect(guarded_page.locator("#model")).to_have_value("musicgen-tiny")


def test_who_has_no_key_is_told_and_may_try_again(guarded_page: Page) -> None:
    expect(guarded_page.get_by_role("dialog")).to_be_visible()
    guarded_page.keyboard.press("Escape")
    expect(guarded_page.get_by_role("alert")).to_contain_text("Le service demande une clé.")
    guarded_page.get_by_role("button", name="Réessayer").click()
    expect(guarded_page.get_by_role("dialog")).to_be_visible()


def test_who_gives_no_key_for_a_song_is_asked_once(guarded_page: Page) -> None:
    give(guarded_page, GOOD_KEY)
    expect(guarded_page.locator("#model")).to_have_value("musicgen-tiny")
    refusal = {"error": {"code": "unauthorized", "message": "No more.", "field": None}}
    for path in ("**/generate", "**/models"):  # as when the key is withdrawn
        guarded_page.route(path, lambda route: route.fulfill(status=401, json=refusal))
    ask(guarded_page, "calm piano", "2")
    expect(guarded_page.get_by_role("dialog")).to_be_visible()
    guarded_page.keyboard.press("Escape")
    expect(guarded_page.get_by_role("alert")).to_contain_text("Le service demande une clé.")
    guarded_page.wait_for_timeout(500)
    expect(guarded_page.get_by_role("dialog")).to_be_hidden()
