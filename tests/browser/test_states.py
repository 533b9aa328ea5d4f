"""The page when music is slow, waits, is cancelled or lost, with a fake Triton."""

import base64
import re
from typing import Any, Literal

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, Route, expect

from gateway.audio.loudness import measure
from gateway.audio.wav import Wav
from gateway.contract import Loading
from protocol.constants import Samples
from protocol.errors import TooManyChanges, TooSlow, WeightsMissing
from tests.browser.page import ask, draw_frame, paused, playing, position, press, rows, tune, whole
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


def test_the_download_of_weights_is_shown(quiet_page: Page, triton: FakeTriton) -> None:
    triton.loading["musicgen-tiny"] = Loading(5_000_000, 20_000_000)
    triton.models.discard("musicgen-tiny")
    ask(quiet_page, "calm piano", "1")
    expect(quiet_page.locator("#state")).to_have_text("Loading the model")
    expect(quiet_page.locator("#left")).to_have_text("5 / 20 MB")
    del triton.loading["musicgen-tiny"]
    whole(quiet_page)


def test_an_unavailable_model_says_why(quiet_page: Page, triton: FakeTriton) -> None:
    triton.models.add("musicgen-small")
    triton.failing["musicgen-small"] = WeightsMissing("Its weights are not here.")
    quiet_page.reload()
    option = quiet_page.locator("option[value=musicgen-small]")
    expect(option).to_have_text("musicgen-small · 300M · mono · unavailable")
    quiet_page.select_option("#model", "musicgen-small")
    expect(quiet_page.locator("#note")).to_contain_text("This model can’t be used now.")
    cause = quiet_page.get_by_text("Its weights are not here.")
    expect(cause).to_be_hidden()
    quiet_page.get_by_text("For the administrator").click()
    expect(cause).to_be_visible()


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


def test_an_unreachable_service_is_reported_and_asked_again(quiet_page: Page) -> None:
    quiet_page.context.set_offline(True)
    ask(quiet_page, "calm piano", "1")
    expect(quiet_page.locator("#error")).to_contain_text("can’t be reached")
    quiet_page.context.set_offline(False)
    quiet_page.get_by_role("button", name="Try again").click()
    whole(quiet_page)


CLOCK = """
window.AudioContext = class extends AudioContext {
  constructor(...options) {
    super(...options);
    window.audio = this;
  }
};
"""


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


def drag(page: Page, target: Locator, start: float, end: float) -> None:
    """Drag across an element, between parts of its width."""
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    assert box
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], y, steps=5)
    page.mouse.up()


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


def steer(page: Page, seconds: str) -> None:
    """Begin a song that can be steered, and wait for its first music."""
    page.get_by_label("Steer", exact=True).check()
    ask(page, "calm piano", seconds)
    expect(playing(page)).to_be_visible()


def test_a_line_of_text_steers_the_song(quiet_page: Page, triton: FakeTriton) -> None:
    triton.pause = 0.4  # for a second of music
    steer(quiet_page, "30")
    assert triton.requests[0].pace == "playback"
    quiet_page.get_by_label("Change it to").fill("fast drums")
    quiet_page.get_by_label("Change it to").press("Enter")
    expect(quiet_page.locator("#heard")).to_have_text(
        re.compile("“fast drums” sounds in [0-9.]+ s")
    )
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


SESSION = """
window.session = {};
navigator.mediaSession.setActionHandler = (name, action) => { session[name] = action; };
"""


def test_the_lock_screen_controls_the_song(quiet_page: Page) -> None:
    quiet_page.add_init_script(SESSION)
    quiet_page.reload()
    quiet_page.select_option("#variations", "2")
    ask(quiet_page, "calm piano", "30")
    expect(playing(quiet_page)).to_be_visible()
    state = "[navigator.mediaSession.playbackState, navigator.mediaSession.metadata.title]"
    assert until(lambda: quiet_page.evaluate(state)) == ["playing", "calm piano"]
    quiet_page.evaluate("session.seekto({ seekTime: 10 })")
    quiet_page.evaluate("session.seekforward({})")
    until(lambda: position(quiet_page) >= 15)
    quiet_page.evaluate("session.pause()")
    expect(paused(quiet_page)).to_be_visible()
    quiet_page.evaluate("session.nexttrack(), session.previoustrack()")
    expect(quiet_page.get_by_role("button", name="Take A", pressed=True)).to_be_visible()
    quiet_page.evaluate("session.play()")
    expect(playing(quiet_page)).to_have_attribute("aria-label", "Pause, take A")


def test_an_empty_deck_has_a_song_to_play(quiet_page: Page) -> None:
    expect(quiet_page.locator("#facts")).to_contain_text("An example")
    expect(rows(quiet_page)).to_have_count(0)
    quiet_page.keyboard.press("Space")
    expect(playing(quiet_page)).to_be_visible()
    until(lambda: position(quiet_page) > 0.2)
    quiet_page.get_by_role("button", name="Redo from here").click()
    expect(quiet_page.get_by_role("button", name="Take B", pressed=True)).to_be_visible()
    expect(rows(quiet_page)).to_have_count(1)


def test_keys_work_wherever_they_mean_nothing_else(quiet_page: Page) -> None:
    quiet_page.fill("#prompt", "calm piano")
    quiet_page.fill("#duration", "30")
    quiet_page.get_by_role("button", name="Make", exact=True).click()
    expect(playing(quiet_page)).to_be_visible()
    whole(quiet_page)
    quiet_page.keyboard.press("Space")  # It does not press Make again.
    expect(paused(quiet_page)).to_be_visible()
    expect(rows(quiet_page)).to_have_count(1)
    quiet_page.locator("#position").focus()
    quiet_page.keyboard.press("Space")
    expect(playing(quiet_page)).to_be_visible()
    quiet_page.get_by_role("button", name="Take A", exact=True).focus()
    quiet_page.keyboard.press("ArrowRight")
    until(lambda: position(quiet_page) > 5)
    quiet_page.locator("#prompt").press("l")
    expect(quiet_page.locator("#prompt")).to_have_value(re.compile("l"))
    expect(quiet_page.get_by_role("button", name="Loop", pressed=False)).to_be_visible()
    quiet_page.evaluate("document.activeElement.blur()")
    quiet_page.keyboard.down("l")
    quiet_page.keyboard.down("l")  # as a key that is held
    expect(quiet_page.get_by_role("button", name="Loop", pressed=True)).to_be_visible()


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


def test_a_star_marks_a_take_for_good(quiet_page: Page) -> None:
    quiet_page.select_option("#variations", "2")
    ask(quiet_page, "calm piano", "1")
    whole(quiet_page)
    quiet_page.get_by_role("button", name="Take B", exact=True).click()
    quiet_page.get_by_role("button", name="Star for this take").click()
    expect(quiet_page.locator("#takes button")).to_have_text(["A", "B★"])
    quiet_page.reload()
    expect(quiet_page.locator("#takes button")).to_have_text(["A", "B★"])


def test_what_another_page_has_stored_does_no_harm(quiet_page: Page) -> None:
    for name in ("draft", "words", "volume", "language"):
        quiet_page.evaluate(f"localStorage.setItem('{name}', '[nonsense')")
    quiet_page.reload()
    expect(quiet_page.locator("#model")).to_have_value("musicgen-tiny")


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


def test_settings_and_volume_outlive_a_reload(quiet_page: Page) -> None:
    quiet_page.fill("#prompt", "sad flute")
    quiet_page.fill("#duration", "7")
    quiet_page.get_by_label("Ending").select_option("loop")
    ask(quiet_page, "sad flute", "7")
    whole(quiet_page)
    quiet_page.get_by_label("Volume").fill("0.5")
    quiet_page.reload()
    expect(quiet_page.locator("#prompt")).to_have_value("sad flute")
    expect(quiet_page.locator("#duration")).to_have_value("7")
    expect(quiet_page.get_by_label("Ending")).to_have_value("loop")
    expect(quiet_page.get_by_label("Volume")).to_have_value("0.5")


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


def test_playback_at_the_last_sample_gets_later_ones(quiet_page: Page) -> None:
    loudest = """async (frames) => {
      const { Sound } = await import("/sound.js"), { Voice } = await import("/voice.js");
      const answer = await fetch("/generate", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ prompt: "calm piano", duration: 1 }),
      });
      const file = new Uint8Array(await answer.arrayBuffer()), samples = 2 * 32000;
      const half = file.length - samples / 2;
      const sound = new Sound();
      sound.append(file.subarray(0, half));
      const context = new OfflineAudioContext(1, 32000, 32000), output = new GainNode(context);
      output.connect(context.destination);
      const voice = new Voice(output, sound, sound.seconds - frames / 32000, null);
      sound.append(file.subarray(half));
      voice.extend();
      const heard = (await context.startRendering()).getChannelData(0).slice(3200, 12800);
      return [Math.max(...heard), sound.extremes(0, sound.frames)[1]];
    }"""
    for frames in (0, 50, 320, 600, 2000):
        heard, peak = quiet_page.evaluate(loudest, frames)
        assert heard > 0.5 * peak > 0


def burst(amplitude: float, channels: int) -> Samples:
    """Four seconds of decaying noise."""
    noise = np.random.default_rng(0).normal(size=(channels, 4 * 32_000))
    decay = np.exp(-np.arange(4 * 32_000) / 32_000 % 0.5 * 6)
    return np.asarray(np.clip(amplitude * noise * decay, -1, 1), np.float32)


PLAYED = """async (text) => {
  const { Sound } = await import("/sound.js"), { Voice } = await import("/voice.js");
  const file = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const sound = new Sound();
  for (let at = 0; at < file.length; at += 10_001) sound.append(file.subarray(at, at + 10_001));
  const context = new OfflineAudioContext(sound.channels, sound.frames + 3200, sound.rate);
  const output = new GainNode(context);
  output.connect(context.destination);
  new Voice(output, sound, 0, null);
  const played = await context.startRendering();
  const channels = [...Array(sound.channels).keys()];
  return channels.map((channel) => [...played.getChannelData(channel)]);
}"""


@pytest.mark.parametrize(("amplitude", "channels"), [(0.03, 1), (0.2, 1), (0.05, 2), (0.2, 2)])
def test_all_songs_play_equally_loud(quiet_page: Page, amplitude: float, channels: int) -> None:
    wav = Wav(channels, 32_000, 4 * 32_000, {})
    file = wav.begin() + wav.encode(burst(amplitude, channels)) + wav.end()
    played = quiet_page.evaluate(PLAYED, base64.b64encode(file).decode())
    assert measure([np.array(played, np.float32)]).loudness == pytest.approx(-18, abs=0.2)


@pytest.mark.parametrize("amplitude", [0.0, 1e-4, 1.0])
def test_no_song_is_played_louder_than_it_can_be(quiet_page: Page, amplitude: float) -> None:
    audio = np.zeros((1, 4 * 32_000), np.float32)
    audio[0, ::8_000] = amplitude
    wav = Wav(1, 32_000, 4 * 32_000, {})
    file = wav.begin() + wav.encode(audio) + wav.end()
    played = quiet_page.evaluate(PLAYED, base64.b64encode(file).decode())
    assert np.abs(played).max() == pytest.approx(min(4 * amplitude, 1.0), abs=1e-3)


@pytest.mark.parametrize(
    ("ending", "fields"), [("Cut", {}), ("Fade", {"ending": "fade"}), ("Loop", {"loop": True})]
)
def test_the_form_chooses_the_ending(quiet_page: Page, ending: str, fields: Any) -> None:
    quiet_page.get_by_label("Ending").select_option(label=ending)
    with quiet_page.expect_request("**/generate") as sent:
        ask(quiet_page, "calm piano", "3")
    body: Any = sent.value.post_data_json
    assert {name: body[name] for name in ("ending", "loop") if name in body} == fields
    whole(quiet_page)


def test_a_loop_is_as_long_as_its_bars(quiet_page: Page) -> None:
    quiet_page.get_by_label("Ending").select_option("loop")
    quiet_page.get_by_label("Tempo").fill("120")
    quiet_page.get_by_label("Key", exact=True).select_option("Minor")
    with quiet_page.expect_request("**/generate") as sent:
        ask(quiet_page, "happy guitar", "7")
    body: Any = sent.value.post_data_json
    assert body["prompt"] == "happy guitar, 120 bpm, minor key"
    assert (body["bars"], body["bpm"], "duration" in body) == (4, 120, False)
    whole(quiet_page)
    expect(quiet_page.locator("#time")).to_contain_text("/ 0:08")
    quiet_page.reload()
    expect(quiet_page.locator("#prompt")).to_have_value("happy guitar")
    expect(quiet_page.get_by_label("Tempo")).to_have_value("120")


def violations(page: Page) -> list[str]:
    """The findings of axe, by rule and place."""
    found = Axe().run(page).response["violations"]
    return [f"{rule['id']} {node['target']}" for rule in found for node in rule["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    quiet_page: Page, triton: FakeTriton, scheme: Literal["light", "dark"]
) -> None:
    quiet_page.emulate_media(color_scheme=scheme)
    expect(quiet_page.locator("#facts")).to_contain_text("An example")
    quiet_page.click("#more summary")
    quiet_page.locator("#file").set_input_files(tune(2))
    expect(quiet_page.locator("#trim")).to_be_visible()
    ask(quiet_page, "calm piano", "1")
    whole(quiet_page)
    ask(quiet_page, " ", "1")
    expect(quiet_page.locator("#prompt + #refusal")).not_to_be_empty()
    assert violations(quiet_page) == []
    quiet_page.get_by_role("button", name="Add a section").click()
    press(quiet_page, "l")
    expect(quiet_page.get_by_role("slider", name="Loop to")).to_be_visible()
    assert violations(quiet_page) == []
    press(quiet_page, "?")
    expect(quiet_page.get_by_role("dialog", name="Keys")).to_be_visible()
    assert violations(quiet_page) == []
    quiet_page.get_by_role("button", name="Close").click()
    quiet_page.select_option("#model", "musicgen-tiny")
    triton.pause = 0.4
    steer(quiet_page, "20")
    quiet_page.get_by_text("Words", exact=True).click()
    assert violations(quiet_page) == []
    triton.cuts = [TooSlow("The song took too long.")]
    expect(quiet_page.locator("#error")).not_to_be_empty()
    assert violations(quiet_page) == []
