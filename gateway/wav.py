"""16-bit PCM WAV."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

BYTES_PER_SAMPLE = 2


def pcm(audio: NDArray[np.float32]) -> bytes:
    """float32 [channels, samples] in -1..1 → interleaved little-endian int16.

    Rounds to the nearest step, clips what is louder, and turns NaN into silence.
    """
    bounded = np.clip(np.nan_to_num(audio.T), -1.0, 1.0)
    steps: NDArray[np.int16] = np.rint(bounded * 32767.0).astype("<i2")
    return steps.tobytes()


def header(channels: int, sample_rate: int, samples: int) -> bytes:
    """The 44 bytes that go before `samples` samples a channel."""
    frame = channels * BYTES_PER_SAMPLE
    size = samples * frame
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1),
        *(channels, sample_rate, sample_rate * frame, frame, 8 * BYTES_PER_SAMPLE),
        *(b"data", size),
    )
