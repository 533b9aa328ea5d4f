"""The training songs of musicgen-tiny-melody: the lead plays a varied melody, in any key.

With the codes of a song comes the chroma of its melody, as audiocraft computes it from the lead
alone or from a hum of the same notes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from audiocraft.modules.chroma import ChromaExtractor
from torch import Tensor

from protocol.constants import PITCH_CLASSES, SAMPLE_RATE, SAMPLES_PER_FRAME
from training import music, sound
from training.data import FIRST_POSITION_CODE, FRAMES
from training.music import (
    BASS_RHYTHMS,
    CENTRE,
    DRUMS_GAIN,
    KICKS,
    SCALES,
    Bar,
    Density,
    Note,
    Part,
    Piece,
    bar_positions,
    moved,
    nearest,
    phrase_positions,
)
from training.quantizer import PARTS, quantise
from training.sound import Audio
from training.structure import MELODY_SPECTRUM
from training.transform import Transform

Floats = npt.NDArray[np.floating[Any]]

SONGS = 400
NEW_CLASSES = set(range(PITCH_CLASSES)) - set(SCALES["major"]) - set(SCALES["minor"])
FREE = 0.5  # share of the melodies without a beat
FREE_LENGTHS = (8, 50)  # frames of a note
LENGTHS: dict[Density, tuple[int, ...]] = {  # of a note on the beat, in sixteenths
    "sparse": (4, 4, 6, 8, 8, 12, 16),
    "medium": (2, 2, 4, 4, 4, 6, 8),
    "dense": (2, 2, 2, 2, 3, 4),
}
SHORTEST = 8  # frames of a note
REST, CHROMATIC, RETURN = 0.05, 0.12, 0.08  # shares of the notes
LEAPS = (-4, -3, -2, -2, -1, -1, -1, 0, 1, 1, 1, 2, 2, 3, 4)  # notes of the scale
REACH = 9  # semitones from the centre of the register

CONCERT_A, A4 = 440.0, 69
# The instruments' C is 250 Hz, which is nearest to the B at concert pitch. So a song sounds as high
# as its melody, but for a fifth of a semitone.
CONCERT = -1
HUMMED = 0.65  # share of the melodies that are heard in a hum instead of in the lead


def song(number: int) -> Piece:
    rng = Random(f"melody piece {number}")
    piece = music.invent(rng)
    while not piece.leads:
        piece = music.invent(rng)
    return replace(piece, texture="melody", tonic=rng.randrange(PITCH_CLASSES))


def notes(number: int, frames: int = FRAMES) -> list[Note]:
    return compose(song(number), frames, Random(f"melody notes {number}"))


def compose(piece: Piece, frames: int, rng: Random) -> list[Note]:
    """A melody, with bass and drums where the piece has them; the bass follows the melody."""
    composed = _melody(piece, frames, rng)
    bass = rng.choice(BASS_RHYTHMS[piece.density])
    kicks = rng.choice(KICKS[piece.density])
    degrees = range(len(piece.scale))
    for start in range(0, frames, piece.bar):
        sung = _classes(composed, start, start + piece.bar)
        bars = [Bar(piece, degree, start) for degree in degrees]
        bar = max(bars, key=lambda bar: sum(sung[of_chord] for of_chord in bar.chord))
        if piece.bass:
            composed += bar.bass(bass)
        if piece.drums:
            composed += bar.drums(DRUMS_GAIN[piece.drums], kicks)
    return [note for note in composed if note.start < frames]


def _melody(piece: Piece, frames: int, rng: Random) -> list[Note]:
    scale, centre = set(piece.scale), CENTRE[piece.register]
    lengths = [max(piece.step * length, SHORTEST) for length in LENGTHS[piece.density]]
    free = rng.random() < FREE
    pitch, start, melody = nearest(centre + rng.randint(-5, 5), scale), 0, list[Note]()
    while start < frames:
        length = rng.randint(*FREE_LENGTHS) if free else rng.choice(lengths)
        if rng.random() > REST:
            lead = piece.leads[start // piece.bar % len(piece.leads)]
            melody.append(Note(lead, pitch, start, length, 1.0))
        kind = rng.random()
        if abs(pitch - centre) > REACH or kind < RETURN:
            pitch = nearest(centre + rng.randint(-5, 5), scale)
        elif kind < RETURN + CHROMATIC:
            pitch += rng.choice((-1, 1))
        else:
            pitch = moved(pitch, rng.choice(LEAPS), scale)
        start += length
    return melody


def _classes(melody: list[Note], start: int, end: int) -> Counter[int]:
    """How many frames each pitch class lasts between two frames."""
    frames = Counter[int]()
    for note in melody:
        if note.part == "lead":
            shared = min(end, note.start + note.frames) - max(start, note.start)
            frames[note.pitch % PITCH_CLASSES] += max(0, shared)
    return frames


def hum(melody: list[Note], frames: int, rng: Random) -> Audio:
    """The melody in one voice at concert pitch, out of tune as a voice is: float32 [samples]."""
    voiced, pitches = np.zeros(frames), np.full(frames, float(melody[0].pitch))
    for note in melody:
        end = note.start + note.frames
        pitches[note.start :] = note.pitch
        voiced[note.start : end] = 1
        if rng.random() < 0.3:  # a breath
            voiced[max(note.start + 3, end - rng.randint(1, 3)) : end] = 0
    octave = 12 * rng.choice((-1, 0, 0, 1))
    pitches += CONCERT + octave + rng.uniform(-0.3, 0.3)
    time = np.arange(frames * SAMPLES_PER_FRAME) / SAMPLE_RATE
    track = _smooth(np.repeat(pitches, SAMPLES_PER_FRAME), rng.choice((1, 640, 1_920)))
    track += rng.uniform(0, 0.25) * np.sin(2 * np.pi * rng.uniform(4, 6.5) * time)
    phase = np.cumsum(2 * np.pi * CONCERT_A / SAMPLE_RATE * 2 ** ((track - A4) / 12))
    slope, harmonics = rng.uniform(0.6, 2), rng.randint(3, 8)
    voice = sum(np.sin(n * phase) / n**slope for n in range(1, harmonics + 1))
    loudness = _smooth(np.repeat(voiced, SAMPLES_PER_FRAME), rng.choice((320, 960)))
    noise = np.random.default_rng(rng.randrange(1 << 32)).standard_normal(len(time))
    audio = 0.1 * loudness * voice + rng.choice((0, 1e-4, 1e-3, 5e-3)) * noise
    return np.asarray(audio, np.float32)


def _smooth(x: Floats, samples: int) -> Floats:
    """A running mean; the ends repeat."""
    padded = np.pad(x.astype(np.float64), (samples // 2 + 1, samples - samples // 2 - 1), "edge")
    sums = np.cumsum(padded)
    return np.append(sums[samples - 1], sums[samples:] - sums[:-samples])[: len(x)] / samples


def new_notes(numbers: range) -> dict[Part, Tensor]:
    """The lead and the bass of songs, without the pitch classes that musicgen-tiny has: float32
    [samples] each."""
    audio: dict[Part, list[Tensor]] = {"lead": [], "bass": []}
    for number in numbers:
        composed = [n for n in notes(number) if n.pitch % PITCH_CLASSES in NEW_CLASSES]
        for part, sounds in audio.items():
            sounds.append(parts(composed, FRAMES)[part])
    return {part: torch.cat(sounds) for part, sounds in audio.items()}


def extractor() -> ChromaExtractor:
    """audiocraft's, as the checkpoint of musicgen-tiny-melody sets it up."""
    return ChromaExtractor(SAMPLE_RATE, PITCH_CLASSES, argmax=True, **MELODY_SPECTRUM)


def encode_songs(
    numbers: range, transform: Transform, codebooks: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the codes int16 [codebooks, frames] and the chroma uint8 [frames + 1] of each song."""
    with ProcessPoolExecutor(
        os.cpu_count(), get_context("spawn"), _start_worker, (transform, codebooks)
    ) as pool:
        yield from pool.map(_encode, numbers, chunksize=16)


_codec: tuple[Transform, Tensor, ChromaExtractor]


def _start_worker(transform: Transform, codebooks: Tensor) -> None:
    global _codec
    _codec = transform, codebooks, extractor()
    torch.set_num_threads(1)


def parts(composed: list[Note], frames: int) -> dict[Part, Tensor]:
    """float32 [frames * 640] each."""
    return {
        part: torch.from_numpy(sound.play([n for n in composed if n.part == part], frames))
        for part in PARTS
    }


def _encode(number: int) -> tuple[Tensor, Tensor]:
    transform, codebooks, chroma = _codec
    piece, composed = song(number), notes(number)
    audio = parts(composed, FRAMES)
    silence: dict[Part, Tensor] = {
        "drums": FIRST_POSITION_CODE + torch.tensor(bar_positions(piece, FRAMES)),
        "bass": FIRST_POSITION_CODE + torch.tensor(phrase_positions(piece, FRAMES)),
    }
    codes = quantise({part: transform(a) for part, a in audio.items()}, codebooks, silence)
    rng = Random(f"hum {number}")
    heard = audio["lead"]
    if rng.random() < HUMMED:
        lead = [note for note in composed if note.part == "lead"]
        heard = torch.from_numpy(hum(lead, FRAMES, rng))
    return codes.short(), chroma(heard[None])[0].argmax(-1).byte()
