"""Tones are in tune, repeat from frame to frame, and end in silence."""

from random import Random

import numpy as np
import pytest

from protocol.constants import SAMPLE_RATE
from protocol.constants import SAMPLES_PER_FRAME as FRAME
from training.music import INSTRUMENTS, Instrument, Note, compose, invent
from training.sound import DRUMS, frequency, play

HELD: tuple[Instrument, ...] = ("organ", "strings", "brass", "flute")


def play_note(instrument: Instrument, pitch: int, frames: int = 50) -> np.ndarray:
    return play([Note(instrument, pitch, 0, frames, 1.0)], frames + 20)


@pytest.mark.parametrize("instrument", [i for i in INSTRUMENTS if i != "drums"])
@pytest.mark.parametrize("pitch", [48, 64, 79])
def test_a_tone_has_its_pitch(instrument: Instrument, pitch: int) -> None:
    sound = play_note(instrument, pitch)[: SAMPLE_RATE // 2]
    correlation = np.correlate(sound, sound, "full")[len(sound) - 1 :]
    shortest = round(SAMPLE_RATE / frequency(pitch) / 1.5)
    period = shortest + int(np.argmax(correlation[shortest : 3 * shortest]))
    assert period == pytest.approx(SAMPLE_RATE / frequency(pitch), rel=0.01)


@pytest.mark.parametrize("instrument", HELD)
@pytest.mark.parametrize(
    ("pitch", "frames"), [(60, 1), (67, 2), (64, 4), (62, 8), (63, 1), (68, 1)]
)
def test_a_held_tone_repeats_after_a_few_frames(
    instrument: Instrument, pitch: int, frames: int
) -> None:
    sound = play_note(instrument, pitch)[20 * FRAME : 40 * FRAME]
    np.testing.assert_allclose(sound[frames * FRAME :], sound[: -frames * FRAME], atol=1e-4)


def test_chords_of_both_modes_are_pure() -> None:
    for mode, chord in (("major", (60, 64, 67)), ("minor", (60, 63, 67))):
        root, third, fifth = map(frequency, chord)
        assert third / root == pytest.approx(5 / 4 if mode == "major" else 6 / 5)
        assert fifth / root == pytest.approx(3 / 2)


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_every_tone_begins_and_ends_in_silence(instrument: Instrument) -> None:
    sound = play_note(instrument, min(DRUMS) if instrument == "drums" else 60)
    assert abs(sound[:3]).max() < 0.1 and abs(sound).max() > 0.05
    assert not sound[-FRAME:].any()


def test_pieces_have_similar_loudness_and_do_not_clip() -> None:
    for number in range(40):
        rng = Random(number)
        sound = play(compose(invent(rng), 250, rng), 250)
        assert 0.01 < sound.std() < 0.25
        assert abs(sound).max() < 1
