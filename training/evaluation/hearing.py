"""Measures of a sound, and the decisions that use them: drums or strings, slow or fast, and so on.

A sound is float32 [samples], mono at 32 kHz. Tuning and tempi are those of the training songs of
musicgen-tiny: just intonation on C = 250 Hz, sixteenth notes of whole codec frames.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from protocol.constants import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME
from training.music import TEMPI
from training.sound import C4, RATIOS

Sound = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

HOP = 320  # samples between short windows: 10 ms
SHORT, LONG = 1_024, 8_192  # samples of a window: 32 ms for times, 256 ms for pitches

MAJOR, MINOR = (4, 9, 11), (3, 8, 10)  # pitch classes of one scale only: E, A, B, or flat
PITCHES = (100, 1_100)  # Hz
TOLERANCE = 30  # cents between a tone and its pitch class

MELODIES = (48, 97)  # MIDI pitches, from a C on
HARMONICS = (1.0, 0.8, 0.6, 0.5, 0.4)  # how much each harmonic of a pitch counts
NEAR = 0.028  # of its frequency: half a semitone
VOICED = 0.15  # of the loudest frame's loudness

FRAME = 2  # hops in a codec frame
BACKBEAT = 8  # sixteenth notes between two strokes of the snare drum
SNARE = (1_500, 5_500)  # Hz: the hiss of the snare drum, below that of hi-hats


def spectrogram(sound: Sound, size: int, hop: int) -> Floats:
    """Amplitudes, [windows, size // 2 + 1]."""
    padded = np.pad(sound.astype(np.float64), size // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    return np.abs(np.fft.rfft(windows * np.hanning(size)))


def hertz(size: int) -> Floats:
    """The frequencies of a spectrogram's columns."""
    return np.fft.rfftfreq(size, 1 / SAMPLE_RATE)


def onset_rate(sound: Sound) -> float:
    """Note onsets per second: rises of the spectrum's level, at most one every 60 ms."""
    amplitudes = spectrogram(sound, SHORT, HOP)
    levels = np.log1p(100 * amplitudes / (amplitudes.max() + 1e-9))
    rises = np.maximum(levels[2:] - levels[:-2], 0).mean(axis=1)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(rises, 3), 7).max(axis=1)
    peaks = (rises == around) & (rises > 0.4 * np.percentile(rises, 99))
    return float(peaks.sum() * SAMPLE_RATE / len(sound))


def tempo(sound: Sound) -> float:
    """Beats per minute, from the backbeat: the snare's hiss recurs on every second beat.

    Without drums a tempo sounds like its double.
    """
    band = slice(*np.searchsorted(hertz(SHORT), SNARE))
    # Noise fills the band; the overtones of a plucked string leave gaps.
    hiss = np.percentile(spectrogram(sound, SHORT, HOP)[:, band], 10, axis=1)

    def contrast(step: int) -> float:
        period = BACKBEAT * step * FRAME
        level = np.array([hiss[start::period].mean() for start in range(period)])
        return float((level - np.roll(level, period // 2)).max())

    return 60 * FRAME_RATE / (4 * max(TEMPI, key=contrast))


def roll_off(sound: Sound, share: float = 0.85) -> float:
    """The frequency (Hz) below which this share of the energy lies."""
    energies = np.square(spectrogram(sound, SHORT, HOP)).sum(axis=0).cumsum()
    return float(hertz(SHORT)[np.searchsorted(energies, share * energies[-1])])


def percussive(sound: Sound) -> float:
    """The share of the energy that is short and broad rather than held and narrow, 0 to 1."""
    energies = np.square(spectrogram(sound, SHORT, HOP))
    held, struck = smooth(energies, 17, 0) ** 2, smooth(energies, 17, 1) ** 2
    return float((energies * struck / (held + struck + 1e-30)).sum() / (energies.sum() + 1e-9))


def smooth(amplitudes: Floats, size: int, axis: int) -> Floats:
    """A running median over `size` neighbours."""
    margin = [(0, 0), (0, 0)]
    margin[axis] = (size // 2, size // 2)
    neighbours = np.lib.stride_tricks.sliding_window_view(
        np.pad(amplitudes, margin, mode="edge"), size, axis
    )
    return np.asarray(np.median(neighbours, axis=-1))


def pitch_classes(sound: Sound) -> Floats:
    """The shares of C, C sharp and so on in the held tones, [12].

    A tone counts only as far as it cannot be the third or fifth harmonic of another tone: the
    harmonics of C are G and E.
    """
    amplitudes = smooth(spectrogram(sound, LONG, LONG // 8), 5, 0)
    bins = np.arange(*np.searchsorted(hertz(LONG), PITCHES))
    here = amplitudes[:, bins]
    peak = (here > amplitudes[:, bins - 1]) & (here >= amplitudes[:, bins + 1])
    below = [np.round(bins / n).astype(int) + off for n in (3, 5) for off in (-1, 0, 1)]
    tones = np.where(peak, here - amplitudes[:, below].max(axis=1), 0).clip(0).sum(axis=0)
    cents = 1_200 * np.log2(hertz(LONG)[bins, None] / C4 / RATIOS)
    classes = tones @ (np.abs((cents + 600) % 1_200 - 600) < TOLERANCE)
    return np.asarray(classes / (classes.sum() + 1e-9))


def pitch_strengths(sound: Sound) -> Floats:
    """How strong each pitch of `MELODIES` is at concert pitch, in each frame:
    [pitches, 1 + frames].

    A pitch is as strong as the sum of its harmonics. The bass is below the pitches that count.
    """
    amplitudes = np.sqrt(spectrogram(sound, LONG, SAMPLES_PER_FRAME))
    bins = np.arange(amplitudes.shape[1])

    def strength(pitch: float) -> Floats:
        near = [np.abs(bins - n * pitch) < NEAR * n * pitch for n in range(1, len(HARMONICS) + 1)]
        loudest = [amplitudes[:, each].max(axis=1) for each in near]
        return np.tensordot(HARMONICS, loudest, axes=1)

    pitches = 440 * 2 ** ((np.arange(*MELODIES) - 69) / 12) * LONG / SAMPLE_RATE
    return np.stack([strength(pitch) for pitch in pitches])


def melody_classes(sound: Sound) -> npt.NDArray[np.int64]:
    """The pitch class of the melody in each frame, from C (0) to B (11) at concert pitch, and -1
    where there is no tone: [1 + frames]."""
    loudness = np.sqrt(spectrogram(sound, LONG, SAMPLES_PER_FRAME)).max(axis=1)
    classes = pitch_strengths(sound).argmax(axis=0) % 12
    return np.where(loudness > VOICED * loudness.max(), classes, -1)


def drums_or_strings(sound: Sound) -> Literal["drums", "strings"]:
    return "drums" if percussive(sound) > 0.2 else "strings"


def slow_or_fast(sound: Sound) -> Literal["slow", "fast"]:
    return "slow" if tempo(sound) < 100 else "fast"


def bass_or_flute(sound: Sound) -> Literal["bass", "flute"]:
    return "bass" if roll_off(sound) < 140 else "flute"


def major_or_minor(sound: Sound) -> Literal["major", "minor"]:
    classes = pitch_classes(sound)
    return "major" if classes[[*MAJOR]].sum() > classes[[*MINOR]].sum() else "minor"
