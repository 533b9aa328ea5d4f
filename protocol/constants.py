"""Numbers and array types that are the same in every MusicGen."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]  # [channels, samples], full scale is 1
Codes = npt.NDArray[np.int32]  # [codebooks, frames]
Chroma = npt.NDArray[np.int32]  # [windows, columns], pitch classes from 0 (C) to 11, or UNKNOWN

FRAME_RATE = 50  # codec frames a second
SAMPLE_RATE = 32_000  # Hz
SAMPLES_PER_FRAME = SAMPLE_RATE // FRAME_RATE

PITCH_CLASSES = 12
UNKNOWN = -1  # in a window whose melody has not been taken out of its mix yet
NO_CHROMA: Chroma = np.zeros((0, 0), np.int32)  # of a song without a melody

MAX_PROMPT_SECONDS = 30.0  # of audio that a song starts with; audiocraft's own limit
MAX_MELODY_SECONDS = 120.0
MAX_CHANNELS = 8
# Hz. Resampling needs memory by the square of what two rates do not have in common.
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE, SAMPLE_RATE_STEP = 8_000, 192_000, 25


def input_name(field: str) -> str:
    """The name of a field, or of a part of one, for Triton's clients. The input TIMELINE is JSON,
    so `sections[0].top_k` is TIMELINE[0].top_k."""
    name, part = re.split(r"(?!\w)", field, maxsplit=1)
    return ("TIMELINE" if name == "sections" else name.upper()) + part
