"""The timeline: playback, sections and loops are moved on it."""

import base64

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from gateway.audio.wav import Wav
from tests.browser.page import (
    ask,
    drag,
    draw_frame,
    playing,
    position,
    press,
    whole,
)
from tests.conftest import until
from tests.gateway.fake_triton import FakeTriton

CLOCK = """
window.AudioContext = class extends AudioContext {
  constructor(...options) {
    super(...options);
    window.audio = this;
  }
};
"""


def test_playback_continues_where_the_handle_is_released(quiet_page: Page) -> None:
    quiet_page.add_init_script(CLOCK)
    quiet_page.reload()
    ask(quiet_page, "calm piano", "10")
    whole(quiet_page)
    handle = quiet_page.locator("#position")
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    assert box
    quiet_page.mouse.move(box["x"] + 5, box["y"] + 20)
    quiet_page.mouse.down()
    quiet_page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20, steps=5)
    held = quiet_page.evaluate("audio.currentTime")
    until(lambda: quiet_page.evaluate("audio.currentTime") > held + 0.3)  # music continues
    assert 4.9 < position(quiet_page) < 5.1
    quiet_page.mouse.up()
    until(lambda: position(quiet_page) > 5.1)


def test_scrolling_with_a_finger_moves_no_song(quiet_page: Page) -> None:
    quiet_page.set_viewport_size({"width": 390, "height": 600})
    ask(quiet_page, "calm piano", "30")
    whole(quiet_page)
    playing(quiet_page).click()
    draw_frame(quiet_page)
    before = position(quiet_page)
    box = quiet_page.locator("#position").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    devtools = quiet_page.context.new_cdp_session(quiet_page)
    scrolled = quiet_page.evaluate("scrollY")
    for step in range(15):
        kind, points = ("touchMove" if step else "touchStart"), [{"x": x, "y": y + 12 * step}]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        draw_frame(quiet_page)
    devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    until(lambda: quiet_page.evaluate("scrollY") < scrolled)
    assert position(quiet_page) == before


def test_a_loop_is_dragged_across_the_waveform(quiet_page: Page) -> None:
    ask(quiet_page, "calm piano", "8")
    whole(quiet_page)
    drag(quiet_page, quiet_page.locator("#surface"), 0.25, 0.5)
    start = quiet_page.get_by_role("slider", name="Loop from")
    end = quiet_page.get_by_role("slider", name="Loop to")
    assert float(start.get_attribute("aria-valuenow") or 0) == pytest.approx(2, abs=0.4)
    assert float(end.get_attribute("aria-valuenow") or 0) == pytest.approx(4, abs=0.4)
    until(lambda: position(quiet_page) > 3)
    until(lambda: 1.5 < position(quiet_page) < 3)  # it is repeated
    end.press("ArrowRight")
    until(lambda: position(quiet_page) > 4.5)
    quiet_page.locator("#surface").click()  # in the middle: a click moves playback
    until(lambda: 3.9 < position(quiet_page) < 4.4)
    before = float(end.get_attribute("aria-valuenow") or 0)
    end.press("Shift+ArrowLeft")  # A fine step does not snap to a beat.
    fine = pytest.approx(before - 0.1)
    until(lambda: float(end.get_attribute("aria-valuenow") or 0) == fine)
    press(quiet_page, "l")
    expect(start).to_be_hidden()


def test_a_dragged_edge_makes_its_section_longer(quiet_page: Page, triton: FakeTriton) -> None:
    ask(quiet_page, "calm piano", "4")
    whole(quiet_page)
    edge = quiet_page.get_by_role("slider", name="End of section 1")
    box, track = edge.bounding_box(), quiet_page.locator("#track").bounding_box()
    assert box and track
    quiet_page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 10)
    quiet_page.mouse.down()
    quiet_page.mouse.move(box["x"] + box["width"] / 2 + track["width"] / 2, box["y"] + 10, steps=4)
    quiet_page.mouse.up()
    expect(quiet_page.get_by_label("Seconds", exact=True)).to_have_value("6")
    quiet_page.get_by_role("button", name="Make from 0:04, as take B").click()
    expect(quiet_page.get_by_role("button", name="Take B", pressed=True)).to_be_visible()
    whole(quiet_page)
    expect(quiet_page.locator("#time")).to_contain_text("/ 0:06")
    [_, request] = triton.requests
    assert request.frames * 640 == request.start + 2 * 32_000 + 3 * 640  # three frames fade in
    expect(quiet_page.locator(".block")).to_have_count(1)


def test_a_section_stays_until_it_can_be_made(quiet_page: Page, triton: FakeTriton) -> None:
    quiet_page.get_by_role("button", name="Add a section").click()
    quiet_page.fill("#words", " ")
    quiet_page.click("#remake")
    expect(quiet_page.locator("#words")).to_be_focused()
    quiet_page.fill("#words", "fast drums")
    quiet_page.fill("#seconds", "1000")  # over the longest song
    quiet_page.click("#remake")
    expect(quiet_page.locator("#seconds")).to_be_focused()
    assert triton.requests == []
    quiet_page.fill("#seconds", "5")
    quiet_page.click("#remake")
    expect(quiet_page.get_by_role("button", name="Take B", pressed=True)).to_be_visible()


def test_a_section_is_added_where_it_has_room(quiet_page: Page) -> None:
    add = quiet_page.get_by_role("button", name="Add a section")
    for duration, seconds in (("298", "2"), ("296.7", "3.3")):
        ask(quiet_page, "calm piano", duration)
        whole(quiet_page)
        add.click()
        expect(quiet_page.locator("#seconds")).to_have_value(seconds)
        expect(quiet_page.locator("#seconds")).to_have_attribute("max", seconds)
        expect(add).to_be_disabled()
    ask(quiet_page, "calm piano", "300")
    whole(quiet_page)
    expect(add).to_be_disabled()


def test_other_words_leave_the_seconds(quiet_page: Page) -> None:
    ask(quiet_page, "calm piano", "8.74")
    whole(quiet_page)
    quiet_page.locator(".block button").click()
    quiet_page.fill("#words", "fast drums")
    edge = quiet_page.get_by_role("slider", name="End of section 1")
    expect(edge).to_have_attribute("aria-valuenow", "8.74")


NEAREST = """async (text) => {
  const { Sound } = await import("/sound.js"), { nearestBeat } = await import("/beats.js");
  const sound = new Sound();
  sound.append(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)));
  return [0.1, 3.2, 3.6, 11.9, 29.8].map((second) => nearestBeat(sound, second));
}"""


@pytest.mark.parametrize("bpm", [75, 120, 150])
def test_loops_snap_to_the_beats_of_the_music(quiet_page: Page, bpm: int) -> None:
    time = np.arange(30 * 32_000) / 32_000
    since_beat = np.mod(time - 0.13, 60 / bpm)
    noise = np.random.default_rng(0).normal(size=len(time))
    audio = (0.02 * noise + 0.5 * noise.clip(-1, 1) * np.exp(-30 * since_beat)).astype(np.float32)
    wav = Wav(1, 32_000, len(audio), {})
    file = wav.begin() + wav.encode(audio[None]) + wav.end()
    for beat in quiet_page.evaluate(NEAREST, base64.b64encode(file).decode()):
        away = np.mod(beat - 0.13 + 30 / bpm, 60 / bpm) - 30 / bpm
        assert abs(away) < 0.03 or beat == 30


def test_a_page_at_rest_lays_nothing_out(quiet_page: Page) -> None:
    """It would take power from a phone, sixty times a second."""
    expect(quiet_page.locator("#facts")).to_contain_text("An example")
    devtools = quiet_page.context.new_cdp_session(quiet_page)
    devtools.send("Performance.enable")
    counts = []
    for _ in range(2):
        for _ in range(20):
            draw_frame(quiet_page)
        metrics = devtools.send("Performance.getMetrics")["metrics"]
        counts += [metric["value"] for metric in metrics if metric["name"] == "LayoutCount"]
    assert counts[1] - counts[0] < 10
