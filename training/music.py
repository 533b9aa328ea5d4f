"""Composes pieces by rule: a key, a tempo, a progression of chords and parts that play over it.

Every note begins and ends on a frame of the codec (1/50 s), so the same note always has the same
codes: a model this small depends on it.
"""

from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

from musicgen_engine.song import FRAME_RATE

STEPS = 16  # sixteenth notes in a bar

Instrument = Literal[
    "piano", "organ", "guitar", "bass", "strings", "brass", "flute", "synth", "drums"
]
INSTRUMENTS: tuple[Instrument, ...] = (
    "piano", "organ", "guitar", "bass", "strings", "brass", "flute", "synth", "drums"
)  # fmt: skip
Mode = Literal["major", "minor"]
Tempo = Literal["slow", "medium", "fast"]
Register = Literal["low", "middle", "high"]
Density = Literal["sparse", "medium", "dense"]
Loudness = Literal["soft", "loud"]

# Frames of a sixteenth note: 62 to 150 beats a minute.
FRAMES_A_STEP: dict[Tempo, tuple[int, ...]] = {
    "slow": (12, 11, 10),
    "medium": (8, 7),
    "fast": (6, 5),
}
# Everything is in C: major or minor.
SCALES: dict[Mode, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
}
# Degrees of the scale that four bars stand on, 0 the tonic. All end where the tonic can follow.
PROGRESSIONS: dict[Mode, tuple[tuple[int, ...], ...]] = {
    "major": ((0, 4, 5, 3), (0, 3, 4, 0), (0, 5, 3, 4), (0, 3, 0, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 4, 0), (0, 5, 3, 4), (0, 3, 0, 4)),
}
# Few levels: a codec has codes of its own for each.
DRUMS_GAIN: dict[Loudness, float] = {"soft": 0.4, "loud": 1.0}
HARMONY_GAIN = 0.5
CENTRE: dict[Register, int] = {"low": 55, "middle": 67, "high": 79}  # MIDI pitch of a melody

# What can carry a melody, what can carry chords, and which of both can do it alone.
LEADS: tuple[Instrument, ...] = (
    "piano", "organ", "guitar", "strings", "brass", "flute", "synth"
)  # fmt: skip
HARMONIES: tuple[Instrument, ...] = ("piano", "organ", "guitar", "strings", "synth")

# Where in a bar of sixteenths notes begin.
MELODY_RHYTHMS: dict[Density, tuple[tuple[int, ...], ...]] = {
    "sparse": ((0, 8), (0, 12), (0, 4, 8)),
    "medium": ((0, 4, 8, 12), (0, 4, 6, 8, 12), (0, 6, 8, 12), (0, 4, 8, 10, 12)),
    "dense": ((0, 2, 4, 6, 8, 10, 12, 14), (0, 2, 4, 6, 7, 8, 10, 12, 14), (0, 2, 3, 4, 6, 8, 12)),
}
CHORD_RHYTHMS: dict[Density, tuple[tuple[int, ...], ...]] = {
    "sparse": ((0,),),
    "medium": ((0,), (0, 8)),
    "dense": ((0, 8), (0, 4, 8, 12)),
}
BASS_RHYTHMS: dict[Density, tuple[tuple[int, ...], ...]] = {
    "sparse": ((0,), (0, 8)),
    "medium": ((0, 8), (0, 4, 8, 12)),
    "dense": ((0, 4, 8, 12), (0, 2, 4, 6, 8, 10, 12, 14)),
}
# General MIDI's drum keys.
KICK, SNARE, CLOSED_HAT = 36, 38, 42
KICKS: dict[Density, tuple[tuple[int, ...], ...]] = {
    "sparse": ((0, 8), (0,)),
    "medium": ((0, 8), (0, 8, 10)),
    "dense": ((0, 4, 8, 12), (0, 6, 8, 10)),
}
HATS: dict[Density, tuple[int, ...]] = {
    "sparse": (0, 4, 8, 12),
    "medium": (0, 2, 4, 6, 8, 10, 12, 14),
    "dense": tuple(range(STEPS)),
}
SNARES = (4, 12)


class Note(NamedTuple):
    instrument: Instrument
    pitch: int  # MIDI
    start: int  # frames
    frames: int  # held
    gain: float


@dataclass(frozen=True)
class Piece:
    """What a caption can say of a piece. At least one of `lead`, `bass` and `drums` plays.

    A `harmony` that is the lead itself is one player's two hands, or one who breaks chords.
    """

    mode: Mode
    step: int  # frames of a sixteenth note
    lead: Instrument | None
    harmony: Instrument | None
    bass: bool
    drums: Loudness | None
    register: Register
    density: Density

    @property
    def tempo(self) -> Tempo:
        return next(tempo for tempo, steps in FRAMES_A_STEP.items() if self.step in steps)

    @property
    def beats_a_minute(self) -> float:
        return 60 * FRAME_RATE / (4 * self.step)

    @property
    def instruments(self) -> list[Instrument]:
        """The one that a caption names first comes first."""
        rhythm: tuple[Instrument | None, ...] = (
            "bass" if self.bass else None,
            "drums" if self.drums else None,
        )
        players = (self.lead, self.harmony, *rhythm)
        return list(dict.fromkeys(player for player in players if player))


def invent(rng: Random) -> Piece:
    """Any piece: half of them for one player, the others for two or three."""
    tempo = rng.choice(list(FRAMES_A_STEP))
    density: Density = rng.choice(["sparse", "medium", "dense"])
    lead = rng.choice(LEADS)
    others = [player for player in HARMONIES if player != lead]
    alone = rng.choice([lead, None]) if lead in HARMONIES else None
    drums: Loudness = rng.choice(["soft", "loud"])
    players: tuple[Instrument | None, Instrument | None, bool, Loudness | None] = rng.choices(
        [
            (lead, alone, False, None),
            (None, None, True, None),
            (None, None, False, drums),
            (lead, None, False, drums),
            (lead, None, True, None),
            (lead, rng.choice(others), False, None),
            (None, None, True, drums),
            (lead, None, True, drums),
        ],
        weights=[38, 6, 7, 17, 8, 10, 5, 9],
    )[0]
    return Piece(
        mode=rng.choice(["major", "minor"]),
        step=rng.choice(FRAMES_A_STEP[tempo]),
        lead=players[0],
        harmony=players[1],
        bass=players[2],
        drums=players[3],
        register=rng.choice(["low", "middle", "middle", "high"]),
        density=density,
    )


def compose(piece: Piece, frames: int, rng: Random) -> list[Note]:
    """The notes that begin within `frames`. `rng` decides all that the piece leaves open.

    Four bars are written, and repeated with the same melody but for each second ending.
    """
    progression = rng.choice(PROGRESSIONS[piece.mode])
    parts = [_Part(piece, degree) for degree in progression]
    figure = [rng.choice(MELODY_RHYTHMS[piece.density]) for _ in range(2)]
    walk = [[rng.choice((-2, -1, -1, 0, 1, 1, 2)) for _ in rhythm] for rhythm in figure]
    endings = [rng.choice(MELODY_RHYTHMS["sparse"]) for _ in range(2)]
    chords = rng.choice(CHORD_RHYTHMS[piece.density])
    both_hands = piece.harmony is not None and piece.harmony == piece.lead
    broken = both_hands and rng.random() < 0.5
    bass = rng.choice(BASS_RHYTHMS[piece.density])
    fifths = rng.random() < 0.4
    kicks = rng.choice(KICKS[piece.density])
    notes: list[Note] = []
    place = piece.step * STEPS
    for bar in range(-(-frames // place)):
        part, start = parts[bar % 4], bar * place
        if piece.lead and not broken:
            last = bar % 4 == 3
            rhythm = endings[bar // 4 % 2] if last else figure[bar % 2]
            steps = [0] * len(rhythm) if last else walk[bar % 2]
            notes += part.melody(start, rhythm, steps)
        if piece.harmony:
            held = CHORD_RHYTHMS["sparse"][0] if both_hands else chords
            notes += part.arpeggio(start) if broken else part.chords(start, held)
        if piece.bass:
            notes += part.bass(start, bass, fifths)
        if piece.drums:
            notes += _drums(piece, start, kicks)
    return [note for note in notes if note.start < frames]


class _Part:
    """One bar of a piece, over the chord on `degree` of its scale."""

    def __init__(self, piece: Piece, degree: int) -> None:
        self.piece = piece
        self.scale = SCALES[piece.mode]
        self.chord = [self.scale[(degree + third) % 7] for third in (0, 2, 4)]

    def melody(self, start: int, rhythm: tuple[int, ...], walk: list[int]) -> list[Note]:
        """Chord tones on the beats, the scale between; beginning near the register's centre."""
        assert self.piece.lead
        classes = set(self.scale)
        pitch = CENTRE[self.piece.register]
        notes = []
        for at, until, move in zip(rhythm, [*rhythm[1:], STEPS], walk, strict=True):
            pitch = _moved(pitch, move, classes)
            if at % 4 == 0:
                pitch = _nearest(pitch, set(self.chord))
            notes.append(self._note(self.piece.lead, pitch, start, at, until - at))
        return notes

    def chords(self, start: int, rhythm: tuple[int, ...]) -> list[Note]:
        return [
            self._note(self._harmony, pitch, start, at, until - at, HARMONY_GAIN)
            for at, until in zip(rhythm, [*rhythm[1:], STEPS], strict=True)
            for pitch in self._voicing
        ]

    def arpeggio(self, start: int) -> list[Note]:
        length = 4 if self.piece.density == "sparse" else 2
        low, middle, high = self._voicing
        order = (low, middle, high, middle)
        return [
            self._note(self._harmony, order[i % 4], start, at, length)
            for i, at in enumerate(range(0, STEPS, length))
        ]

    def bass(self, start: int, rhythm: tuple[int, ...], fifths: bool) -> list[Note]:
        root = 28 + (self.chord[0] - 28) % 12
        fifth = root + 7 if root < 33 else root - 5
        return [
            self._note("bass", fifth if fifths and i % 2 else root, start, at, until - at)
            for i, (at, until) in enumerate(zip(rhythm, [*rhythm[1:], STEPS], strict=True))
        ]

    @property
    def _harmony(self) -> Instrument:
        assert self.piece.harmony
        return self.piece.harmony

    @property
    def _voicing(self) -> list[int]:
        """Three notes from G3 up, or an octave lower under a low melody."""
        lowest = 43 if self.piece.register == "low" else 55
        return sorted(lowest + (pitch - lowest) % 12 for pitch in self.chord)

    def _note(
        self, player: Instrument, pitch: int, start: int, at: int, steps: int, gain: float = 1.0
    ) -> Note:
        step = self.piece.step
        return Note(player, pitch, start + at * step, steps * step, gain)


def _drums(piece: Piece, start: int, kicks: tuple[int, ...]) -> list[Note]:
    assert piece.drums
    gain = DRUMS_GAIN[piece.drums]
    hits = [(KICK, at) for at in kicks] + [(SNARE, at) for at in SNARES]
    hits += [(CLOSED_HAT, at) for at in HATS[piece.density]]
    return [Note("drums", key, start + at * piece.step, piece.step, gain) for key, at in hits]


def _nearest(pitch: int, classes: set[int]) -> int:
    return min(range(pitch - 6, pitch + 7), key=lambda p: (p % 12 not in classes, abs(p - pitch)))


def _moved(pitch: int, steps: int, classes: set[int]) -> int:
    """`steps` notes up or down the scale."""
    pitch = _nearest(pitch, classes)
    for _ in range(abs(steps)):
        pitch += 1 if steps > 0 else -1
        while pitch % 12 not in classes:
            pitch += 1 if steps > 0 else -1
    return pitch
