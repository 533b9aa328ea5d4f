"""Composes pieces by rule: a key, a tempo, a chord progression, and parts that play over it.

A model this small depends on two rules. Every note begins and ends on a frame of the codec
(1/50 s), so the same note always has the same codes. One melodic instrument plays at a time: all of
them share the lead's codebooks, while bass and drums have codebooks of their own.
"""

from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

from protocol.constants import FRAME_RATE

STEPS = 16  # sixteenth notes in a bar
BEATS = 4  # in a bar
PHRASE = 4  # bars, which repeat until the end

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
Texture = Literal["melody", "chords", "arpeggio"]
Part = Literal["lead", "bass", "drums"]

# Frames of a sixteenth note: 62 to 150 beats per minute.
FRAMES_PER_STEP: dict[Tempo, tuple[int, ...]] = {"slow": (12, 10), "medium": (8,), "fast": (6, 5)}
TEMPI = sorted(step for steps in FRAMES_PER_STEP.values() for step in steps)
BAR_POSITIONS = STEPS * sum(TEMPI)  # frames of a bar, summed over all tempi
# Those of musicgen-tiny are all in C; musicgen-tiny-melody has them in any key.
SCALES: dict[Mode, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
}
# Sixteenth notes of a phrase, summed over all tempi and modes.
PHRASE_POSITIONS = len(TEMPI) * len(SCALES) * PHRASE * STEPS
# Scale degrees of the chords in a phrase, 0 the tonic; each phrase can follow itself.
PROGRESSIONS: dict[Mode, tuple[tuple[int, ...], ...]] = {
    "major": ((0, 4, 5, 3), (0, 3, 4, 0), (0, 5, 3, 4), (0, 3, 0, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 4, 0), (0, 5, 3, 4), (0, 3, 0, 4)),
}
# Few levels, because each needs codes of its own.
DRUMS_GAIN: dict[Loudness, float] = {"soft": 0.4, "loud": 1.0}
CHORD_GAIN = 0.5
CENTRE: dict[Register, int] = {"low": 55, "middle": 67, "high": 79}  # MIDI pitch of a melody

# Instruments for melodies, and those of them for chords too.
LEADS: tuple[Instrument, ...] = (
    "piano", "organ", "guitar", "strings", "brass", "flute", "synth"
)  # fmt: skip
HARMONIES: tuple[Instrument, ...] = ("piano", "organ", "guitar", "strings", "synth")

# The sixteenth notes of a bar on which notes begin.
MELODY_RHYTHMS: dict[Density, tuple[tuple[int, ...], ...]] = {
    "sparse": ((0, 8), (0, 12), (0, 4, 8)),
    "medium": ((0, 4, 8, 12), (0, 4, 6, 8, 12), (0, 6, 8, 12), (0, 4, 8, 10, 12)),
    "dense": ((0, 2, 4, 6, 8, 10, 12, 14), (0, 2, 4, 6, 7, 8, 10, 12, 14), (0, 2, 3, 4, 6, 8, 12)),
}
CADENCE = (0, 8)
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

    @property
    def part(self) -> Part:
        if self.instrument == "bass" or self.instrument == "drums":
            return self.instrument
        return "lead"


@dataclass(frozen=True)
class Piece:
    """The traits of a piece, which a caption can name.

    At least one of `leads`, `bass` and `drums` plays. Two leads alternate bar by bar.
    """

    mode: Mode
    step: int  # frames of a sixteenth note
    leads: tuple[Instrument, ...]
    texture: Texture  # of the leads
    bass: bool
    drums: Loudness | None
    register: Register
    density: Density
    tonic: int = 0  # pitch class

    @property
    def scale(self) -> list[int]:
        """Pitch classes, from the tonic on."""
        return [(self.tonic + step) % 12 for step in SCALES[self.mode]]

    @property
    def tempo(self) -> Tempo:
        return next(tempo for tempo, steps in FRAMES_PER_STEP.items() if self.step in steps)

    @property
    def bar(self) -> int:
        """Frames of a bar."""
        return STEPS * self.step

    @property
    def beat(self) -> int:
        """Frames of a beat."""
        return self.bar // BEATS

    @property
    def beats_per_minute(self) -> float:
        return 60 * FRAME_RATE / (4 * self.step)

    @property
    def instruments(self) -> list[Instrument]:
        """In the order in which captions name them."""
        instruments: list[Instrument] = [*self.leads]
        if self.bass:
            instruments.append("bass")
        if self.drums:
            instruments.append("drums")
        return instruments


def invent(rng: Random) -> Piece:
    """A random piece: half of them for one instrument, the others for two or more."""
    tempo = rng.choice(list(FRAMES_PER_STEP))
    loudness: Loudness = rng.choice(["soft", "loud"])
    lead, other = rng.sample(LEADS, 2)
    leads, bass, drums = rng.choices(
        [
            ((lead,), False, False),
            ((), True, False),
            ((), False, True),
            ((lead,), False, True),
            ((lead,), True, False),
            ((lead,), True, True),
            ((), True, True),
            ((lead, other), False, False),
            ((lead, other), False, True),
            ((lead, other), True, True),
        ],
        weights=[36, 6, 8, 18, 7, 9, 4, 5, 4, 3],
    )[0]
    textures: list[Texture] = ["melody", "melody", "chords", "arpeggio"]
    return Piece(
        mode=rng.choice(["major", "minor"]),
        step=rng.choice(FRAMES_PER_STEP[tempo]),
        leads=leads,
        texture=rng.choice(textures) if set(leads) <= set(HARMONIES) else "melody",
        bass=bass,
        drums=loudness if drums else None,
        register=rng.choice(["low", "middle", "middle", "high"]),
        density=rng.choice(["sparse", "medium", "dense"]),
    )


def compose(piece: Piece, frames: int, rng: Random) -> list[Note]:
    """The notes that begin within `frames`. `rng` decides what the traits leave open.

    One phrase repeats; its last bar is a cadence.
    """
    degrees = rng.choice(PROGRESSIONS[piece.mode])
    figures = [rng.choice(MELODY_RHYTHMS[piece.density]) for _ in range(2)]
    walks = [[rng.choice((-2, -1, -1, 0, 1, 1, 2)) for _ in rhythm] for rhythm in figures]
    chords = rng.choice(CHORD_RHYTHMS[piece.density])
    bass = rng.choice(BASS_RHYTHMS[piece.density])
    kicks = rng.choice(KICKS[piece.density])
    notes: list[Note] = []
    for number in range(-(-frames // piece.bar)):
        bar = Bar(piece, degrees[number % PHRASE], number * piece.bar)
        if piece.leads:
            lead = piece.leads[number % len(piece.leads)]
            if piece.texture == "chords":
                notes += bar.chords(lead, chords)
            elif piece.texture == "arpeggio":
                notes += bar.arpeggio(lead)
            elif number % PHRASE == PHRASE - 1:
                notes += bar.melody(lead, CADENCE, [0] * len(CADENCE))
            else:
                notes += bar.melody(lead, figures[number % 2], walks[number % 2])
        if piece.bass:
            notes += bar.bass(bass)
        if piece.drums:
            notes += bar.drums(DRUMS_GAIN[piece.drums], kicks)
    return [note for note in notes if note.start < frames]


def bar_positions(piece: Piece, frames: int) -> list[int]:
    """For each frame a number below `BAR_POSITIONS`: the tempo and the frame of the bar."""
    before = STEPS * sum(TEMPI[: TEMPI.index(piece.step)])
    return [before + frame % piece.bar for frame in range(frames)]


def phrase_positions(piece: Piece, frames: int) -> list[int]:
    """For each frame a number below `PHRASE_POSITIONS`: tempo, mode and sixteenth of the phrase."""
    kind = TEMPI.index(piece.step) * len(SCALES) + list(SCALES).index(piece.mode)
    steps = PHRASE * STEPS
    return [kind * steps + frame // piece.step % steps for frame in range(frames)]


class Bar:
    """A bar of a piece that begins on frame `start`, over the chord on `degree` of the scale."""

    def __init__(self, piece: Piece, degree: int, start: int) -> None:
        self.piece = piece
        self.start = start
        self.chord = [piece.scale[(degree + third) % 7] for third in (0, 2, 4)]

    def melody(self, lead: Instrument, rhythm: tuple[int, ...], walk: list[int]) -> list[Note]:
        """Chord tones on the beats, scale tones between, from the register's centre on."""
        classes = set(self.piece.scale)
        pitch = CENTRE[self.piece.register]
        notes = []
        for at, end, move in zip(rhythm, [*rhythm[1:], STEPS], walk, strict=True):
            pitch = moved(pitch, move, classes)
            if at % 4 == 0:
                pitch = nearest(pitch, set(self.chord))
            notes.append(self._note(lead, pitch, at, end - at))
        return notes

    def chords(self, lead: Instrument, rhythm: tuple[int, ...]) -> list[Note]:
        return [
            self._note(lead, pitch, at, end - at, CHORD_GAIN)
            for at, end in zip(rhythm, [*rhythm[1:], STEPS], strict=True)
            for pitch in self._voicing
        ]

    def arpeggio(self, lead: Instrument) -> list[Note]:
        length = 4 if self.piece.density == "sparse" else 2
        low, middle, high = self._voicing
        order = (low, middle, high, middle)
        return [
            self._note(lead, order[i % 4], at, length)
            for i, at in enumerate(range(0, STEPS, length))
        ]

    def bass(self, rhythm: tuple[int, ...]) -> list[Note]:
        root = 28 + (self.chord[0] - 28) % 12
        return [
            self._note("bass", root, at, end - at)
            for at, end in zip(rhythm, [*rhythm[1:], STEPS], strict=True)
        ]

    def drums(self, gain: float, kicks: tuple[int, ...]) -> list[Note]:
        hits = [(KICK, at) for at in kicks] + [(SNARE, at) for at in SNARES]
        hits += [(CLOSED_HAT, at) for at in HATS[self.piece.density]]
        return [self._note("drums", key, at, 1, gain) for key, at in hits]

    @property
    def _voicing(self) -> list[int]:
        """Three notes around the register's centre."""
        lowest = CENTRE[self.piece.register] - 7
        return sorted(lowest + (pitch - lowest) % 12 for pitch in self.chord)

    def _note(
        self, instrument: Instrument, pitch: int, at: int, steps: int, gain: float = 1.0
    ) -> Note:
        step = self.piece.step
        return Note(instrument, pitch, self.start + at * step, steps * step, gain)


def nearest(pitch: int, classes: set[int]) -> int:
    return min(range(pitch - 6, pitch + 7), key=lambda p: (p % 12 not in classes, abs(p - pitch)))


def moved(pitch: int, steps: int, classes: set[int]) -> int:
    """The pitch `steps` notes up or down the scale."""
    pitch = nearest(pitch, classes)
    for _ in range(abs(steps)):
        pitch += 1 if steps > 0 else -1
        while pitch % 12 not in classes:
            pitch += 1 if steps > 0 else -1
    return pitch
