"""The page in Chromium, with the running stack and its musicgen-tiny."""

import io
import json
import os
import re
import signal
import subprocess
import urllib.request
from functools import partial

import numpy as np
import pytest
import soundfile
from playwright.sync_api import expect

from tests.browser.page import (
    OpenPage,
    ask,
    is_at,
    paused,
    playing,
    position,
    press,
    rows,
    saved,
    whole,
)
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
    expect(paused(page)).to_be_visible()
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
    ruler = page.get_by_role("slider", name="Position")
    ruler.click()  # in the middle
    until(partial(is_at, page, 4))
    for key, expected in {"PageUp": 4.8, "PageDown": 4, "End": 8, "Home": 0}.items():
        ruler.press(key)
        until(partial(is_at, page, expected))
    expect(ruler).to_have_attribute("aria-valuetext", "0:00 of 0:08")
    paused(page).click()
    expect(playing(page)).to_be_visible()
    assert until(lambda: position(page)) < 4


def test_a_song_is_repeated(open_page: OpenPage) -> None:
    page = open_page()
    ask(page, "calm piano", "2")
    whole(page)
    press(page, "l")
    expect(page.get_by_role("button", name="Loop", pressed=True)).to_be_visible()
    positions = [position(page)]

    def is_repeated() -> bool:
        positions.append(position(page))
        return positions[-1] < positions[-2]

    until(is_repeated)
    until(is_repeated)
    press(page, "l")
    expect(paused(page)).to_be_visible()


def test_songs_outlive_a_reload_until_they_are_deleted(open_page: OpenPage) -> None:
    page = open_page()
    for prompt in ("calm piano", "fast drums"):
        ask(page, prompt, "1")
        whole(page)
    file = saved(page)
    page.reload()
    expect(rows(page)).to_have_text(["fast drums", "calm piano"])
    expect(page.locator("#title")).to_have_text("fast drums")
    assert saved(page) == file
    page.get_by_role("button", name="Play calm piano").click()
    expect(page.locator("#title")).to_have_text("calm piano")
    expect(playing(page)).to_be_visible()
    page.click("#remove")
    expect(rows(page)).to_have_text(["fast drums"])
    page.reload()
    expect(rows(page)).to_have_text(["fast drums"])


def test_takes_have_own_seeds_and_share_the_position(open_page: OpenPage) -> None:
    page = open_page()
    page.click("#more summary")
    page.select_option("#variations", "2")
    page.fill("#seed", "7")
    ask(page, "calm piano", "4")
    expect(playing(page)).to_be_visible()  # the first take that sounds
    press(page, "1")
    whole(page)
    expect(page.locator("#facts")).to_contain_text("Seed 7")
    press(page, "l")
    page.locator("#position").fill("2")
    take = page.get_by_role("button", name="Take B", exact=True)
    expect(take).to_have_attribute("data-state", "done")
    press(page, "2")
    expect(take).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#facts")).to_contain_text("Seed 8")
    whole(page)
    expect(page.get_by_role("button", name="Pause, take B")).to_be_visible()
    assert position(page) > 1.9
    expect(page.get_by_role("button", name="Loop", pressed=True)).to_be_visible()


def test_an_added_section_continues_the_song(open_page: OpenPage) -> None:
    page = open_page()
    ask(page, "calm piano", "3")
    whole(page)
    first, rate = soundfile.read(io.BytesIO(saved(page)), dtype="int16")
    page.get_by_role("button", name="Add a section").click()
    page.get_by_label("Section 2", exact=True).fill("fast drums")
    page.get_by_label("Seconds", exact=True).fill("2")
    page.get_by_role("button", name="Make from 0:03, as take B").click()
    whole(page)
    expect(page.locator(".block button")).to_have_text(["calm piano", "fast drums"])
    longer, _ = soundfile.read(io.BytesIO(saved(page)), dtype="int16")
    assert len(longer) == 5 * rate
    kept = 3 * rate - round(0.06 * rate)  # the rest fades into the new part
    assert np.array_equal(longer[:kept], first[:kept])
    steps = np.abs(np.diff(longer.astype(int)))
    assert steps[kept - 10 : 3 * rate + 10].max() <= steps.max()  # no click
    press(page, "1")
    expect(page.get_by_role("button", name="Take A", pressed=True)).to_be_visible()
    assert np.array_equal(soundfile.read(io.BytesIO(saved(page)), dtype="int16")[0], first)


def test_the_rest_is_made_anew_from_the_position(open_page: OpenPage) -> None:
    page = open_page()
    ask(page, "calm piano", "4")
    whole(page)
    first, rate = soundfile.read(io.BytesIO(saved(page)), dtype="int16")
    expect(paused(page)).to_be_visible()
    page.locator("#position").fill("2")
    page.get_by_role("button", name="Redo from here").click()
    expect(page.get_by_role("button", name="Take B", pressed=True)).to_be_visible()
    expect(playing(page)).to_be_visible()
    whole(page)
    other, _ = soundfile.read(io.BytesIO(saved(page)), dtype="int16")
    kept = 2 * rate - round(0.06 * rate)
    assert len(other) == len(first) and np.array_equal(other[:kept], first[:kept])
    assert not np.array_equal(other[2 * rate :], first[2 * rate :])


def test_a_song_is_cut_at_a_dragged_edge(open_page: OpenPage) -> None:
    page = open_page()
    ask(page, "calm piano", "4")
    whole(page)
    first, rate = soundfile.read(io.BytesIO(saved(page)), dtype="int16")
    edge = page.get_by_role("slider", name="End of section 1")
    edge.press("ArrowLeft")
    expect(edge).to_have_attribute("aria-valuetext", "0:03")
    page.get_by_role("button", name="Make from 0:03, as take B").click()
    whole(page)
    cut, _ = soundfile.read(io.BytesIO(saved(page)), dtype="int16")
    assert np.array_equal(cut, first[: 3 * rate])
    expect(page.locator("#state")).to_have_text("Done")


def test_a_recorded_melody_makes_a_song(open_page: OpenPage) -> None:
    """With the model that is included, and a microphone that beeps."""
    page = open_page()
    page.select_option("#model", "musicgen-tiny-melody")
    page.get_by_role("button", name="Record").click()
    expect(page.get_by_role("button", name="End the recording")).to_be_visible()
    page.wait_for_timeout(1000)
    ask(page, "calm piano", "2")
    expect(page.locator("#facts")).to_contain_text("with a melody")
    whole(page)
    assert b'"chroma"' in saved(page)  # what the model heard of it


HEAR_COPY = "addEventListener('copy', ({ target }) => { window.copied = target.value; })"


def test_a_link_holds_the_settings(open_page: OpenPage) -> None:
    page = open_page()
    page.click("#more summary")
    page.fill("#temperature", "0.8")
    page.fill("#seed", "123")
    ask(page, "calm piano & drums", "1")
    whole(page)
    page.evaluate(HEAR_COPY)
    page.get_by_role("button", name="Copy link").click()
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


def test_a_command_makes_the_song_again(open_page: OpenPage) -> None:
    page = open_page()
    ask(page, "grandma's calm piano", "1")
    whole(page)
    page.evaluate(HEAR_COPY)
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.locator("#command")).to_have_text("Copied")
    command = page.evaluate("copied").replace("-o song.wav", "-sS")
    made = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, check=True)
    assert made.stdout == saved(page)


def test_a_song_survives_a_dead_gateway(open_page: OpenPage, stack: Stack) -> None:
    page = open_page()
    page.click("#more summary")
    page.fill("#seed", "5")
    ask(page, "calm piano", "10")
    expect(playing(page)).to_be_visible()
    os.kill(stack.gateway(), signal.SIGKILL)
    expect(page.locator("#state")).to_have_text(re.compile("went away"))
    whole(page)
    broken = saved(page)
    page.click("#remove")
    ask(page, "calm piano", "10")
    whole(page)
    assert saved(page) == broken


@pytest.mark.parametrize(("locale", "word"), [("en-GB", "Make"), ("fr-CA", "Créer")])
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
    expect(page.locator("#generate")).to_have_text("Créer")


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


def test_a_song_goes_on_after_a_reload(open_page: OpenPage, stack_url: str) -> None:
    page = open_page()
    ask(page, "calm piano", "20")
    expect(playing(page)).to_be_visible()
    until(lambda: position(page) > 2)
    page.reload()
    expect(page.locator("#title")).to_have_text("calm piano")
    whole(page)
    expect(page.locator("#state")).to_have_text("Done")
    broken = saved(page)
    seed = re.search(r"Seed (\d+)", page.inner_text("#facts"))
    assert seed
    body = {"prompt": "calm piano", "duration": 20, "seed": int(seed[1]), "model": "musicgen-tiny"}
    request = urllib.request.Request(
        f"{stack_url}/generate",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.read() == broken


def test_a_stopped_song_can_be_made_whole(open_page: OpenPage, stack_url: str) -> None:
    page = open_page()
    ask(page, "calm piano", "25")
    expect(playing(page)).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    whole(page)
    until(lambda: in_flight(stack_url) == 0)
    page.reload()
    expect(page.locator("#state")).to_have_text(re.compile("Stopped at 0:[0-9]+ of 0:25"))
    file = saved(page)
    part, rate = soundfile.read(io.BytesIO(file), dtype="int16")
    assert 0 < len(part) < 25 * rate and MADE_BY_A_MACHINE in file
    page.get_by_role("button", name="Make it whole").click()
    expect(page.locator("#state")).to_have_text("Done")
    wav, _ = soundfile.read(io.BytesIO(saved(page)), dtype="int16")
    assert len(wav) == 25 * rate and np.array_equal(wav[: len(part)], part)


def in_flight(url: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        return total(answer.read().decode(), "gateway_songs_in_flight")


def test_a_phone_shows_the_page_without_sideways_scrolling(open_page: OpenPage) -> None:
    page = open_page("fr-FR", width=360)
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_no_line_of_french_begins_with_punctuation(open_page: OpenPage) -> None:
    page = open_page("fr-FR", width=360)
    texts = page.inner_text("body") + str(page.get_attribute("#prompt", "placeholder"))
    assert {"Poids\u00a0:", "musique\u00a0?"} <= set(re.findall(r"\w+\s[:?]", texts))
    assert not re.search(" [:;?!»]", texts)
