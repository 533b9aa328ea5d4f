"""Old tunes that no training song has, played by a voice that none has: a whistle with vibrato.

A tune is in letters as in ABC notation: an octave from `C` to `B`, the next from `c` to `b`, `^`
sharpens and `_` flattens, `z` is a rest, and a number is a length in units.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from protocol.constants import SAMPLE_RATE
from training.evaluation.hearing import Floats, Sound

SEMITONES = dict(
    zip("CDEFGABcdefgab", (0, 2, 4, 5, 7, 9, 11, 12, 14, 16, 17, 19, 21, 23), strict=True)
)
NOTE = re.compile(r"([_^]?)([A-Ga-gz])(\d*)")
MIDDLE_C = 60
HARMONICS = (1.0, 0.4, 0.2, 0.1)
VIBRATO, VIBRATO_RATE = 0.15, 5.0  # semitones, Hz
ATTACK = 0.02  # seconds


@dataclass(frozen=True)
class Tune:
    name: str
    key: int  # semitones that it is played higher than written
    unit: float  # seconds
    notes: str

    @property
    def parsed(self) -> list[tuple[int | None, float]]:
        """MIDI pitch, or None for a rest, and length in seconds."""
        played = []
        for accidental, letter, units in NOTE.findall(self.notes):
            pitch = None
            if letter != "z":
                shift = {"^": 1, "_": -1, "": 0}[accidental]
                pitch = MIDDLE_C + self.key + SEMITONES[letter] + shift
            played.append((pitch, self.unit * int(units or 1)))
        return played


TUNES = (
    Tune("Ode to Joy", 0, 0.42, "E E F G G F E D C C D E E2 D D2 E E F G G F E D C C D E D2 C C2"),
    Tune("Frère Jacques", -2, 0.37, "C D E C C D E C E F G2 E F G2 G A G F E2 C2 G A G F E2 C2"),
    Tune("Twinkle, Twinkle", 3, 0.45, "C C G G A A G2 F F E E D D C2 G G F F E E D2"),
    Tune("Au clair de la lune", 5, 0.4, "C C C D E2 D2 C E D D C4 C C C D E2 D2 C E D D C4"),
    Tune("Mary Had a Little Lamb", 2, 0.36, "E D C D E E E2 D D D2 E G G2 E D C D E E E E D D E D"),
    Tune("London Bridge", -4, 0.33, "G2 A G F2 E F G4 D E F4 E F G4 G2 A G F E F G4 D4 G4 E2 C4"),
    Tune("Amazing Grace", 0, 0.34, "C2 F4 A F A4 G2 F4 D2 C4 C2 F4 A F A4 G2 c6 A2 c4 A F A4 G2"),
    Tune("Greensleeves", 1, 0.3, "A2 c4 d2 e3 ^f e2 d4 B2 G3 A B2 c4 A2 A3 ^G A2 B4 ^G2 E4"),
    Tune("Scarborough Fair", -3, 0.36, "D4 D2 A4 A2 E3 F E2 D6 z2 A2 c2 d4 c2 A2 B2 G2 A6"),
    Tune("When the Saints", 4, 0.32, "C E F G5 C E F G5 C E F G2 E2 C2 E2 D5 E E D C3 C E2 G2 G F"),
    Tune("Oh! Susanna", -5, 0.31, "C D E2 G3 A G2 E2 C3 D E2 E2 D2 C2 D4 C D E2 G3 A G2 E2 C3"),
    Tune("Jingle Bells", 6, 0.34, "E E E2 E E E2 E G C2 D E4 F F F2 F E E2 E D D E D2 G2 E E E2"),
    Tune("Silent Night", -1, 0.32, "G3 A G2 E6 G3 A G2 E6 d4 d2 B6 c4 c2 G6 A4 A2 c3 B A2 G3 A G2"),
    Tune("La Marseillaise", 2, 0.35, "C C2 F2 F2 G2 G2 c3 A F2 A F D4 _B4 G3 E F6 z2 F G A4 A2 A2"),
    Tune("Cielito lindo", -2, 0.36, "G3 A2 ^G3 G3 F2 E4 z E3 F2 E3 E3 D2 C4 z c3 B2 A3 G3 F2"),
    Tune("Sakura", 5, 0.44, "A2 A2 B4 A2 A2 B4 A2 B2 c2 B2 A2 B A F4 E2 C2 E2 F2 E2 E C B2"),
    Tune("In the Hall", 1, 0.28, "A2 B2 c2 d2 e2 c2 e4 ^d2 B2 ^d4 d2 _B2 d4 A2 B2 c2 d2 e2 c2 e2"),
    Tune("Für Elise", 0, 0.27, "e2 ^d2 e2 ^d2 e2 B2 d2 c2 A4 z C2 E2 A2 B4 z E2 ^G2 B2 c4"),
    Tune("O Canada", 4, 0.36, "E4 G3 G C6 D2 E2 F2 G2 A2 D8 E4 ^F3 ^F G6 A2 B2 B2 A2 A2 G8"),
    Tune("Wiegenlied", -4, 0.35, "E E G4 E E G4 E G c3 B2 A A G3 D E F3 D2 D E F4 D F B A G2 B2"),
)  # fmt: skip


def whistle(tune: Tune, seconds: float) -> Sound:
    """The tune again and again, at concert pitch."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    audio, start = np.zeros(len(time)), 0.0
    while start < seconds:
        for pitch, length in tune.parsed:
            inside = slice(*np.searchsorted(time, (start, start + length)))
            if pitch is not None and inside.start < len(time):
                audio[inside] = _tone(pitch, time[inside] - start, length)
            start += length
    return audio.astype(np.float32)


def _tone(pitch: int, time: Floats, length: float) -> Floats:
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    sway = VIBRATO / 12 * np.log(2) / (2 * np.pi * VIBRATO_RATE)
    phase = 2 * np.pi * hertz * (time - sway * np.cos(2 * np.pi * VIBRATO_RATE * time))
    loudness = np.minimum(1, np.minimum(time, length - time) / ATTACK).clip(0)
    tone = sum(a * np.sin(n * phase) for n, a in enumerate(HARMONICS, 1))
    return np.asarray(0.2 * loudness * tone)
