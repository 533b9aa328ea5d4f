"""musicgen-tiny-melody follows a melody, in a song of `python -m training.evaluation.following`."""

import numpy as np
import pytest
import torch

from protocol.constants import FRAME_RATE, PITCH_CLASSES
from tests.musicgen_engine.conftest import TINY_MELODY, load
from training import melody
from training.evaluation import following
from training.evaluation.adherence import generate
from training.evaluation.hearing import melody_classes
from training.evaluation.tunes import TUNES, Tune, whistle

SECONDS = 6


@pytest.mark.parametrize("tune", TUNES, ids=lambda tune: tune.name)
def test_the_pitch_classes_of_a_whistled_tune_are_its_notes(tune: Tune) -> None:
    expected, start = np.full(SECONDS * FRAME_RATE + 1, -1), 0.0
    for pitch, length in tune.parsed:
        end = start + length
        if pitch is not None:
            frames = slice(round(start * FRAME_RATE), round(end * FRAME_RATE))
            expected[frames] = pitch % PITCH_CLASSES
        start = end
    heard = melody_classes(whistle(tune, SECONDS))
    both = (expected >= 0) & (heard >= 0)
    assert (heard == expected)[both].mean() > 0.9 and both.mean() > 0.8


def test_the_pitch_classes_of_composed_songs_are_their_melodys() -> None:
    shares = []
    for number in range(8):
        notes = melody.notes(number, 300)
        expected = np.full(301, -1)
        for note in notes:
            if note.part == "lead":
                pitch = note.pitch + melody.CONCERT
                expected[note.start : note.start + note.frames] = pitch % PITCH_CLASSES
        song = sum(melody.parts(notes, 300).values())
        assert isinstance(song, torch.Tensor)
        heard = melody_classes(song.numpy())
        shares.append((heard == expected)[expected >= 0].mean())
    assert np.mean(shares) > 0.85


def test_a_song_follows_its_tune_and_no_other() -> None:
    torch.set_num_threads(1)
    tunes = [whistle(TUNES[number], SECONDS) for number in (0, 8)]
    request = following.request("piano", tunes[0], 0, 3.0)
    (song,) = generate(load(TINY_MELODY), [request])
    assert following.agreement(song, tunes[0]) > 0.75
    assert following.agreement(song, tunes[1]) < 0.3
