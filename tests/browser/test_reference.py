"""Audio that a song begins with or follows: chosen, dropped, pasted, recorded or of the deck."""

import base64
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import FilePayload, Locator, Page, expect

from tests.browser.page import ask, tune, whole
from tests.conftest import until
from tests.gateway.fake_triton import FakeTriton

SVG: FilePayload = {"name": "a.svg", "mimeType": "image/svg+xml", "buffer": b"<svg/>"}


def choose(page: Page, file: FilePayload | Path) -> None:
    page.locator("#file").set_input_files(file)


def cut(page: Page) -> Locator:
    """The line about the audio and its part."""
    return page.locator("#cut")


def facts(page: Page) -> Locator:
    """The deck's line about its song, once all of it is there."""
    return whole(page).locator("#facts")


def test_a_song_begins_with_a_file_and_is_longer(quiet_page: Page, triton: FakeTriton) -> None:
    choose(quiet_page, tune(12))
    expect(cut(quiet_page)).to_have_text("tune.flac: 0:00–0:12 of 0:12")
    expect(quiet_page.locator("#duration")).to_have_value("22")
    ask(quiet_page, "calm piano", "13")
    expect(facts(quiet_page)).to_contain_text("continued")
    [request] = triton.requests
    assert request.prompt_audio is not None and request.prompt_audio.shape == (1, 12 * 32_000)
    assert request.frames == 13 * 50


def test_a_part_of_the_file_is_sent(quiet_page: Page, triton: FakeTriton) -> None:
    """The server takes 30 s as a start, and 120 s as a melody."""
    quiet_page.select_option("#model", "musicgen-melody")
    choose(quiet_page, tune(150))
    expect(cut(quiet_page)).to_have_text("tune.flac: 0:00–2:00 of 2:30")
    quiet_page.select_option("#role", "start")
    expect(cut(quiet_page)).to_have_text("tune.flac: 0:00–0:30 of 2:30")
    quiet_page.get_by_label("End of the part").press("End")
    expect(cut(quiet_page)).to_have_text("tune.flac: 2:00–2:30 of 2:30")
    quiet_page.get_by_label("Start of the part").fill("145.5")
    expect(cut(quiet_page)).to_have_text("tune.flac: 2:25–2:30 of 2:30")
    ask(quiet_page, "calm piano", "10")
    whole(quiet_page)
    [request] = triton.requests
    assert request.prompt_audio is not None
    assert request.prompt_audio.shape == (1, round(4.5 * 32_000))


@pytest.mark.parametrize(("edge", "key"), [("Start", "End"), ("End", "Home")])
def test_the_part_of_a_file_is_never_empty(
    quiet_page: Page, triton: FakeTriton, edge: str, key: str
) -> None:
    choose(quiet_page, tune(2))
    expect(cut(quiet_page)).to_contain_text("0:02")
    quiet_page.get_by_label(f"{edge} of the part").press(key)
    ask(quiet_page, "calm piano", "3")
    whole(quiet_page)
    [request] = triton.requests
    assert request.prompt_audio is not None
    assert request.prompt_audio.shape == (1, round(0.1 * 32_000))


def test_a_melody_is_for_models_that_follow_one(quiet_page: Page, triton: FakeTriton) -> None:
    quiet_page.select_option("#model", "musicgen-melody")
    choose(quiet_page, tune(2))
    expect(quiet_page.locator("#role")).to_have_value("melody")
    ask(quiet_page, "calm piano", "1")
    expect(facts(quiet_page)).to_contain_text("with a melody")
    [request] = triton.requests
    assert request.melody is not None and request.melody.shape == (1, 64_000)
    assert not request.separate
    quiet_page.select_option("#model", "musicgen-tiny")
    expect(quiet_page.locator("#role")).to_have_value("audio")
    quiet_page.get_by_role("button", name="Remove").click()
    expect(quiet_page.locator("#reference")).to_be_hidden()
    ask(quiet_page, "calm drums", "1")
    expect(facts(quiet_page)).not_to_contain_text("with a melody")
    assert triton.requests[-1].melody is None and triton.requests[-1].prompt_audio is None


def test_a_model_without_melodies_says_so(quiet_page: Page, triton: FakeTriton) -> None:
    choose(quiet_page, tune(2))
    expect(quiet_page.locator("#role option:disabled")).to_have_text("melody")
    expect(quiet_page.locator("#why")).to_be_empty()  # No model here follows one.
    ask(quiet_page, "calm piano", "12")
    expect(facts(quiet_page)).to_contain_text("continued")


def test_a_melody_in_a_mix_waits_for_the_separator(quiet_page: Page, triton: FakeTriton) -> None:
    triton.stuck = True
    quiet_page.select_option("#model", "musicgen-melody")
    choose(quiet_page, tune(2))
    quiet_page.get_by_label("It has drums or bass").check()
    ask(quiet_page, "calm piano", "1")
    expect(quiet_page.locator("#state")).to_contain_text("without drums and bass, place 1")
    assert triton.requests[-1].separate


GIVE = """(target, [kind, text, name]) => {
  const data = new DataTransfer();
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  data.items.add(new File([bytes], name));
  const options = { dataTransfer: data, clipboardData: data, bubbles: true, cancelable: true };
  if (kind === "paste") target.dispatchEvent(new ClipboardEvent("paste", options));
  else for (const type of ["dragover", "drop"]) target.dispatchEvent(new DragEvent(type, options));
}"""


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_file_is_given_anywhere(quiet_page: Page, kind: str) -> None:
    file = tune(3)
    text = base64.b64encode(file["buffer"]).decode()
    quiet_page.locator("#transport").evaluate(GIVE, [kind, text, file["name"]])
    expect(cut(quiet_page)).to_have_text("tune.flac: 0:00–0:03 of 0:03")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (SVG, "The browser finds no audio in this file"),
        (tune(1, amplitude=0), "This audio is silent"),
        (32_000_001, "This file is over 32 MB"),
    ],
    ids=["no audio", "silent", "large"],
)
def test_a_bad_file_is_refused_and_the_last_one_stays(
    quiet_page: Page, tmp_path: Path, file: FilePayload | int, message: str
) -> None:
    choose(quiet_page, tune(2))
    expect(cut(quiet_page)).to_contain_text("0:02")
    if isinstance(file, int):  # bytes; a file on the disk takes a tenth of the time
        large = tmp_path / "large.wav"
        with large.open("wb") as zeros:
            zeros.truncate(file)
        choose(quiet_page, large)
    else:
        choose(quiet_page, file)
    expect(quiet_page.locator("#choose + #refusal")).to_contain_text(message)
    expect(quiet_page.locator("#choose")).to_be_focused()
    expect(cut(quiet_page)).to_contain_text("0:02")
    choose(quiet_page, tune(3))
    expect(quiet_page.locator("#refusal")).to_be_empty()
    expect(cut(quiet_page)).to_contain_text("0:03")


def test_the_song_on_the_deck_is_used(quiet_page: Page, triton: FakeTriton) -> None:
    ask(quiet_page, "calm piano", "2")
    whole(quiet_page)
    quiet_page.get_by_role("button", name="Use this audio").click()
    expect(cut(quiet_page)).to_have_text("calm piano: 0:00–0:02 of 0:02")
    ask(quiet_page, "calm piano", "3")
    whole(quiet_page)
    audio = triton.requests[-1].prompt_audio
    assert audio is not None and audio.shape == (1, 2 * 32_000)


def test_a_melody_can_be_recorded(quiet_page: Page, triton: FakeTriton) -> None:
    """Making a song ends the recording. The fake microphone beeps twice a second."""
    quiet_page.select_option("#model", "musicgen-melody")
    quiet_page.get_by_role("button", name="Record").press("Enter")
    button = quiet_page.get_by_role("button", name="End the recording")
    expect(button).to_be_visible()
    quiet_page.wait_for_timeout(1500)
    ask(quiet_page, "calm piano", "1")
    expect(facts(quiet_page)).to_contain_text("with a melody")
    expect(button).to_be_hidden()
    until(lambda: triton.requests)
    melody = triton.requests[-1].melody
    assert melody is not None and melody.shape[1] > 32_000 and np.abs(melody).max() > 0.01


def test_a_page_without_a_microphone_says_so(quiet_page: Page) -> None:
    quiet_page.add_init_script(
        "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException(); }"
    )
    quiet_page.reload()
    quiet_page.get_by_role("button", name="Record").click()
    expect(quiet_page.get_by_role("alert").first).to_contain_text("gives no microphone")
    expect(quiet_page.get_by_role("button", name="Record")).to_be_enabled()


def test_a_recording_without_sound_makes_no_song(quiet_page: Page, triton: FakeTriton) -> None:
    quiet_page.add_init_script(
        """navigator.mediaDevices.getUserMedia = async () =>
          new AudioContext().createMediaStreamDestination().stream;"""
    )
    quiet_page.reload()
    for end in ("End the recording", "Make"):
        quiet_page.get_by_role("button", name="Record").click()
        expect(quiet_page.locator("#refusal")).to_be_empty()
        quiet_page.get_by_role("button", name=end).click()
        expect(quiet_page.locator("#record")).to_have_attribute("aria-disabled", "false")
        expect(quiet_page.locator("#refusal")).to_contain_text("The browser finds no audio")
    choose(quiet_page, tune(1))
    ask(quiet_page, "calm piano", "2")
    whole(quiet_page)
    assert len(triton.requests) == 1


def test_the_part_is_shown_as_it_is_used(quiet_page: Page) -> None:
    quiet_page.select_option("#model", "musicgen-melody")
    choose(quiet_page, tune(150))
    expect(cut(quiet_page)).to_have_text("tune.flac: 0:00–2:00 of 2:30")
    for role, end in (("start", "0:30"), ("melody", "2:00")):
        quiet_page.select_option("#role", role)
        expect(cut(quiet_page)).to_have_text(f"tune.flac: 0:00–{end} of 2:30")


HOLD = """const decode = OfflineAudioContext.prototype.decodeAudioData;
window.held = [];
OfflineAudioContext.prototype.decodeAudioData = async function (bytes) {
  await new Promise((go) => held.push(go));
  return decode.call(this, bytes);
};"""  # A file is read when the test says so.


def test_a_song_waits_for_the_last_file(quiet_page: Page, triton: FakeTriton) -> None:
    quiet_page.add_init_script(HOLD)
    quiet_page.reload()
    for seconds in (2, 3):
        choose(quiet_page, tune(seconds))
    ask(quiet_page, "calm piano", "12")
    while not triton.requests:
        quiet_page.evaluate("held.pop()?.()")  # the last one first, if the page reads both at once
    audio = triton.requests[0].prompt_audio
    assert audio is not None and audio.shape == (1, 3 * 32_000)
    expect(cut(quiet_page)).to_contain_text("0:03")


def test_submits_that_wait_for_a_recording_are_songs_of_their_own(
    quiet_page: Page, triton: FakeTriton
) -> None:
    quiet_page.select_option("#model", "musicgen-melody")
    quiet_page.get_by_role("button", name="Record").press("Enter")
    expect(quiet_page.get_by_role("button", name="End the recording")).to_be_visible()
    quiet_page.wait_for_timeout(1500)
    for _ in range(2):
        ask(quiet_page, "calm piano", "1")
    expect(quiet_page.locator("#songs .title")).to_have_count(2)
    until(lambda: len(triton.requests) == 2)
    expect(quiet_page.locator("#takes button")).to_have_text(["A"])


PASTE = """(target) => {
  const data = new DataTransfer();
  data.setData("text/plain", "calm piano");
  data.items.add(new File([new Uint8Array(9)], "image.png", { type: "image/png" }));
  const options = { clipboardData: data, bubbles: true, cancelable: true };
  return target.dispatchEvent(new ClipboardEvent("paste", options));
}"""


def test_text_of_an_office_program_is_pasted_as_text(quiet_page: Page) -> None:
    """Such programs add a picture of the text."""
    assert quiet_page.locator("#prompt").evaluate(PASTE)  # The browser goes on to paste.
    expect(quiet_page.locator("#refusal")).to_be_empty()
