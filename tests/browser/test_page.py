"""The page in Chromium, with the running stack and its musicgen-tiny."""

import io
import json
import os
import re
import signal
import urllib.request
from functools import partial

import numpy as np
import pytest
import soundfile
from playwright.sync_api import expect

from tests.browser.page import OpenPage, ask, is_at, playing, position, saved, song, whole
from tests.conftest import Stack, until
from tests.prometheus import total

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
MADE_BY_A_MACHINE = b"digitalsourcetype/trainedAlgorithmicMedia"
MARGIN = 0.03  # seconds before the end of the samples: later ones come too late for playback


def test_playback_is_the_file_without_a_gap(open_page: OpenPage) -> None:
    page = open_page(script=SPY)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    ask(page, "calm piano", "5")
    whole(page)
    expect(song(page).locator(".play[data-state=play]")).to_be_visible()
    file, rate = soundfile.read(io.BytesIO(saved(page)), dtype="int16")
    assert rate == 32_000 and file.shape == (5 * 32_000,)
    assert np.abs(file).max() > 1000  # it is heard
    starts, blocks = page.evaluate("starts"), page.evaluate("heard()")
    assert len(starts) == len(blocks) > 1  # it played before the song was whole
    place, end = 0, starts[0]["when"]  # the place in the file, and the end of what is scheduled
    for start, samples in zip(starts, blocks, strict=True):
        block = np.rint(np.array(samples) * 32_767)
        assert start["rate"] == rate
        if start["when"] != pytest.approx(end, abs=1e-6):  # playback stopped, and continues
            assert start["now"] > end - MARGIN - 1e-6  # it had no more samples
            places = range(place - round(2 * MARGIN * rate), place + 1)
            place = next(n for n in places if np.array_equal(block, file[n : n + len(block)]))
        assert np.array_equal(block, file[place : place + len(block)])
        place, end = place + len(block), start["end"]
    assert place == len(file)
    assert complaints == []


def test_the_handle_moves_playback(open_page: OpenPage) -> None:
    page = open_page()
    ask(page, "calm piano", "8")
    whole(page)
    playing(page).click()
    wave = song(page).get_by_role("slider")
    wave.click()  # in the middle
    until(partial(is_at, page, 4))
    for key, expected in {"PageUp": 4.8, "PageDown": 4, "End": 8, "Home": 0}.items():
        wave.press(key)
        until(partial(is_at, page, expected))
    song(page).get_by_role("button", name="Play").click()
    expect(playing(page)).to_be_visible()
    assert until(lambda: position(page)) < 4


def test_a_part_is_repeated(open_page: OpenPage) -> None:
    page = open_page()
    ask(page, "calm piano", "3")
    whole(page)
    playing(page).click()
    at_rest = song(page).get_by_role("slider")
    for place, text in {1: "Repeat from here", 2: "Repeat up to here"}.items():
        at_rest.fill(str(place))
        song(page).get_by_role("button", name=text).click()
    song(page).get_by_role("button", name="Play").click()
    positions = [position(page)]

    def is_repeated() -> bool:
        positions.append(position(page))
        return positions[-1] < positions[-2]

    until(is_repeated)
    until(lambda: position(page) > 1.5)
    until(is_repeated)
    assert all(0.9 <= place <= 2.1 for place in positions)
    song(page).get_by_role("button", name="Repeat no more").click()
    until(lambda: position(page) > 2.3)


def test_each_format_is_the_same_song(open_page: OpenPage) -> None:
    page = open_page()
    ask(page, "calm piano", "2")
    whole(page)
    files = {format: saved(page, format) for format in ("wav", "flac", "ogg", "mp3")}
    sounds = {format: soundfile.read(io.BytesIO(file)) for format, file in files.items()}
    assert np.array_equal(sounds["wav"][0], sounds["flac"][0])
    assert [len(samples) / rate for samples, rate in sounds.values()] == [2, 2, 2, 2]
    assert all(b"calm piano" in file and MADE_BY_A_MACHINE in file for file in files.values())


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
    expect(playing(page)).to_be_visible()
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


def test_variations_have_own_seeds_and_share_the_position(open_page: OpenPage) -> None:
    page = open_page()
    page.click("#more summary")
    page.select_option("#variations", "2")
    page.fill("#seed", "7")
    ask(page, "calm piano", "4")
    songs = page.locator("article")
    expect(songs.locator("[data-part=facts]")).to_contain_text(["Seed 7", "Seed 8"])
    expect(songs.get_by_role("button", name="Download")).to_have_count(2)
    places = [songs.nth(i).bounding_box() for i in range(2)]
    assert places[0] and places[1] and places[0]["y"] == places[1]["y"]  # side by side
    songs.nth(0).get_by_role("slider").fill("2")
    songs.nth(0).get_by_role("button", name="Repeat from here").click()
    songs.nth(1).locator(".play").click()
    heard = songs.nth(1).get_by_role("slider")
    assert until(lambda: float(heard.input_value())) > 1.9
    expect(songs.nth(1).get_by_role("button", name="Repeat up to here")).to_be_visible()


def test_a_song_continues_from_the_position(open_page: OpenPage) -> None:
    page = open_page()
    ask(page, "calm piano", "3")
    whole(page)
    first, _ = soundfile.read(io.BytesIO(saved(page)))
    playing(page).click()
    song(page).get_by_role("slider").fill("2")
    song(page).get_by_role("button", name="Continue from here").click()
    expect(page.locator("#audio")).to_contain_text("0:02")
    page.fill("#duration", "4")
    page.press("#duration", "Control+Enter")
    expect(page.locator("article")).to_have_count(2)
    whole(page)
    expect(song(page).locator("[data-part=facts]")).to_contain_text("continued")
    longer, _ = soundfile.read(io.BytesIO(saved(page)))
    assert len(longer) == 4 * 32_000
    beginning = np.corrcoef(first[: 2 * 32_000], longer[: 2 * 32_000])[0, 1]
    assert beginning > 0.5  # the codec has compressed it


def test_a_recorded_melody_makes_a_song(open_page: OpenPage) -> None:
    """With the model that is included, and a microphone that beeps."""
    page = open_page()
    page.select_option("#model", "musicgen-tiny-melody")
    page.get_by_role("button", name="Record").click()
    expect(page.get_by_role("button", name="End the recording")).to_be_visible()
    page.wait_for_timeout(1000)
    ask(page, "calm piano", "2")
    expect(whole(page).locator("[data-part=facts]")).to_contain_text("with a melody")
    assert b'"chroma"' in saved(page)  # what the model heard of it


def test_a_link_holds_the_settings(open_page: OpenPage) -> None:
    page = open_page()
    page.click("#more summary")
    page.fill("#temperature", "0.8")
    page.select_option("#format", "flac")
    page.fill("#seed", "123")
    ask(page, "calm piano & drums", "1")
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
        "format": "flac",
        "prompt": "calm piano & drums",
        "temperature": "0.8",
        "seed": "123",
    }.items():
        expect(page.locator(f"#{field}")).to_have_value(value)


def test_a_song_survives_a_dead_gateway(open_page: OpenPage, stack: Stack) -> None:
    page = open_page()
    page.click("#more summary")
    page.fill("#seed", "5")
    ask(page, "calm piano", "10")
    expect(playing(page)).to_be_visible()
    os.kill(stack.gateway(), signal.SIGKILL)
    expect(song(page).get_by_role("status")).to_have_text(re.compile("went away"))
    whole(page)
    broken = saved(page)
    song(page).get_by_role("button", name="Delete").click()
    ask(page, "calm piano", "10")
    whole(page)
    assert saved(page) == broken


@pytest.mark.parametrize(("locale", "word"), [("en-GB", "Generate"), ("fr-CA", "Générer")])
def test_the_page_has_the_language_of_the_browser(
    open_page: OpenPage, locale: str, word: str
) -> None:
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
    expect(page.locator(f"#{field} + #refusal")).not_to_be_empty()


def test_a_stopped_song_is_kept_and_leaves_the_server(open_page: OpenPage, stack_url: str) -> None:
    page = open_page()
    ask(page, "calm piano", "300")
    expect(playing(page)).to_be_visible()
    song(page).get_by_role("button", name="Stop").click()
    whole(page)
    until(lambda: in_flight(stack_url) == 0)
    page.reload()
    file = saved(page)
    wav, rate = soundfile.read(io.BytesIO(file))
    assert 0 < len(wav) < 300 * rate and MADE_BY_A_MACHINE in file
    flac, _ = soundfile.read(io.BytesIO(saved(page, "flac")))
    assert len(flac) == len(wav)
    shared = len(wav) - rate // 5  # the end depends on what follows, which one of them lacks
    assert np.allclose(flac[:shared], wav[:shared], atol=1e-4)


def in_flight(url: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        return total(answer.read().decode(), "gateway_songs_in_flight")


def test_a_phone_shows_the_page_without_sideways_scrolling(open_page: OpenPage) -> None:
    page = open_page("fr-FR", width=360)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
