"""The voice: the samples that are heard, and how loud they are."""

import base64

import numpy as np
import pytest
from playwright.sync_api import Page

from gateway.audio.loudness import measure
from gateway.audio.wav import Wav
from protocol.constants import Samples


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
