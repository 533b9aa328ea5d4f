"""Nine synthesised instruments, tuned so that a small codec can encode them.

Frequencies are in just intonation on C = 250 Hz (A = 417 Hz, as in the baroque): simple multiples
of the codec's 50 frames per second. So the frames of a held note or chord repeat: C in every frame,
D in every eighth. In equal temperament no two frames are alike. Harmonics are exact multiples, and
the noise is the same in each drum stroke.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from protocol.constants import SAMPLE_RATE, SAMPLES_PER_FRAME
from training.music import CLOSED_HAT, KICK, SNARE, Instrument, Note

C4 = 250.0  # Hz
MIDDLE_C = 60  # MIDI
RATIOS = (1, 16 / 15, 9 / 8, 6 / 5, 5 / 4, 4 / 3, 45 / 32, 3 / 2, 8 / 5, 5 / 3, 9 / 5, 15 / 8)
HIGHEST = 9_000  # Hz, of a harmonic
FADE_STEP = 0.16  # seconds: tones fade in steps, so that the frames within a step are alike
FADE_SLOPE = 0.02  # seconds from one step to the next
CLICK = 0.002  # seconds of the fastest attack
MASTER_GAIN = 0.6  # leaves headroom for a full band

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Timbre:
    """The envelope of a tone's harmonics."""

    harmonics: Sequence[float]  # amplitudes, from the fundamental up
    attack: float  # seconds, of the fundamental
    brightening: float  # seconds that each higher harmonic adds to the attack
    decay: float  # per second, of the fundamental; 0 for a held tone
    damping: float  # per second, that each higher harmonic adds to the decay
    release: float  # seconds
    gain: float


def _rolloff(count: int, slope: float, plucked: float | None = None) -> list[float]:
    """Amplitudes 1 / n^slope; `plucked` is where along its length a string is plucked."""
    amplitudes = [n**-slope for n in range(1, count + 1)]
    if plucked is not None:
        amplitudes = [
            a * abs(float(np.sin(np.pi * n * plucked))) for n, a in enumerate(amplitudes, 1)
        ]
    return amplitudes


def _square(count: int, slope: float) -> list[float]:
    """Odd harmonics only."""
    return [n**-slope if n % 2 else 0.0 for n in range(1, count + 1)]


def _formant(count: int, centre: float, width: float) -> list[float]:
    """Amplitudes around one harmonic, as in a horn."""
    return [float(np.exp(-(((n - centre) / width) ** 2) / 2)) for n in range(1, count + 1)]


TIMBRES: dict[Instrument, Timbre] = {
    "piano": Timbre(_rolloff(16, 1.2, 1 / 8), 0.004, 0.0, 1.2, 0.5, 0.04, 0.36),
    "guitar": Timbre(_rolloff(24, 0.7, 1 / 5), CLICK, 0.0, 2.5, 0.9, 0.04, 0.25),
    "organ": Timbre((1.0, 0.9, 0.5, 0.6, 0, 0.4, 0, 0.4), 0.015, 0.0, 0.0, 0.0, 0.02, 0.073),
    "strings": Timbre(_rolloff(28, 0.9), 0.14, 0.004, 0.0, 0.0, 0.06, 0.093),
    "brass": Timbre(_formant(22, 4, 4.5), 0.03, 0.008, 0.0, 0.0, 0.04, 0.055),
    "flute": Timbre((1.0, 0.25, 0.06, 0.02), 0.06, 0.0, 0.0, 0.0, 0.04, 0.137),
    "synth": Timbre(_square(31, 0.8), CLICK, 0.0, 0.8, 0.25, 0.04, 0.137),
    "bass": Timbre(_rolloff(10, 1.4, 1 / 3.3), 0.006, 0.0, 1.0, 0.7, 0.04, 0.25),
}  # fmt: skip


def frequency(pitch: int) -> float:
    """Hz of a MIDI pitch."""
    octave, degree = divmod(pitch - MIDDLE_C, 12)
    return C4 * 2.0**octave * RATIOS[degree]


def play(notes: Sequence[Note], frames: int) -> Audio:
    """float32 [frames * 640] at 32 kHz."""
    audio = np.zeros(frames * SAMPLES_PER_FRAME, np.float32)
    for note in notes:
        start = note.start * SAMPLES_PER_FRAME
        sound = _sound(note.instrument, note.pitch, note.frames)[: len(audio) - start]
        audio[start : start + len(sound)] += np.float32(note.gain) * sound
    return np.float32(MASTER_GAIN) * audio


@lru_cache(maxsize=8_192)
def _sound(instrument: Instrument, pitch: int, frames: int) -> Audio:
    """A single note, from silence to silence."""
    if instrument == "drums":
        return DRUMS[pitch]
    return tone(TIMBRES[instrument], frequency(pitch), frames * SAMPLES_PER_FRAME / SAMPLE_RATE)


def tone(timbre: Timbre, fundamental: float, seconds: float) -> Audio:
    """The sum of the harmonics: each has its own attack and decay, all have one release."""
    count = round(seconds * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    step, since = np.divmod(time, FADE_STEP)
    age = FADE_STEP * (step - 1 + np.minimum(since / FADE_SLOPE, 1)).clip(0)
    audio = np.zeros(count)
    for n, amplitude in enumerate(timbre.harmonics):
        hertz = (n + 1) * fundamental
        if amplitude == 0 or hertz > HIGHEST:
            continue
        rise = np.minimum(time / (timbre.attack + n * timbre.brightening), 1)
        fade = np.exp(-age * (timbre.decay + n * timbre.damping) * (fundamental / C4) ** 0.5)
        phase = 2.4 * n * n  # differs, so that the harmonics do not peak together
        audio += amplitude * rise * fade * np.sin(2 * np.pi * hertz * time + phase)
    end = np.clip((seconds - time) / timbre.release, 0, 1)
    return (timbre.gain * audio * end).astype(np.float32)


def _drum(
    gain: float, seconds: float, skin: tuple[float, float], noise: float, band: tuple[float, float]
) -> Audio:
    """A skin whose pitch falls (Hz), and a share of fixed noise in one band (Hz)."""
    count = round(seconds * SAMPLE_RATE)
    time = np.arange(count) / SAMPLE_RATE
    high, low = skin
    sweep = low * time + (high - low) * 0.03 * (1 - np.exp(-time / 0.03))
    tone = np.sin(2 * np.pi * sweep) * np.exp(-time * 5 / seconds)
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(count))
    hertz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    spectrum[(hertz < band[0]) | (hertz > band[1])] = 0
    hiss = np.fft.irfft(spectrum, count)
    hiss *= np.exp(-time * 7 / seconds) / np.abs(hiss).max()
    fade = np.clip((seconds - time) / 0.01, 0, 1)
    stroke: Audio = (gain * ((1 - noise) * tone + noise * hiss) * fade).astype(np.float32)
    return stroke


DRUMS: dict[int, Audio] = {
    KICK: _drum(0.9, 0.24, (160, 50), 0.03, (1_000, 5_000)),
    SNARE: _drum(0.6, 0.20, (260, 180), 0.75, (1_000, 8_000)),
    CLOSED_HAT: _drum(0.3, 0.06, (0, 0), 1.0, (6_000, 14_000)),
}
