"""The songs of musicgen-tiny-melody have a melody, which the chroma beside them shows."""

from random import Random

import numpy as np
import pytest
import torch

from protocol.constants import PITCH_CLASSES
from training import melody
from training.melody import CONCERT, NEW_CLASSES
from training.music import SCALES

FRAMES = 500
EXTRACTOR = melody.extractor()


@pytest.mark.parametrize("number", range(4))
def test_the_chroma_of_lead_and_hum_are_the_melodys_notes(number: int) -> None:
    notes = [note for note in melody.notes(number, FRAMES) if note.part == "lead"]
    expected = np.full(FRAMES, -1)
    for note in notes:
        expected[note.start : note.start + note.frames] = (note.pitch + CONCERT) % PITCH_CLASSES
    lead = melody.parts(notes, FRAMES)["lead"]
    hum = torch.from_numpy(melody.hum(notes, FRAMES, Random(number)))
    for audio in (lead, hum):
        chroma = EXTRACTOR(audio[None])[0].argmax(-1).numpy()
        assert chroma.shape == (FRAMES + 1,)
        assert (chroma[:-1] == expected)[expected >= 0].mean() > 0.85


def test_melodies_have_all_keys_and_all_pitch_classes() -> None:
    assert {melody.song(number).tonic for number in range(100)} == set(range(PITCH_CLASSES))
    pitches = {note.pitch % PITCH_CLASSES for n in range(20) for note in melody.notes(n, FRAMES)}
    assert pitches == set(range(PITCH_CLASSES))


def test_new_pitch_classes_are_those_outside_c_major_and_c_minor() -> None:
    assert {1, 6} == NEW_CLASSES and not NEW_CLASSES & {*SCALES["major"], *SCALES["minor"]}


def test_every_melody_stays_near_the_centre_of_its_register() -> None:
    for number in range(20):
        pitches = [note.pitch for note in melody.notes(number) if note.part == "lead"]
        assert max(pitches) - min(pitches) < 40
