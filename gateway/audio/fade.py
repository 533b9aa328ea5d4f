"""Fades at both ends of a song, as raised cosines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protocol.constants import Samples


class Fade:
    """Fades a song of `samples` per channel, slice by slice: in from silence over its first
    `fade_in` samples, out to silence over its last `fade_out`."""

    def __init__(self, samples: int, fade_in: int, fade_out: int) -> None:
        self._samples, self._fade_in, self._fade_out = samples, fade_in, fade_out
        self._done = 0

    def __call__(self, audio: Samples) -> Samples:
        places = np.arange(self._done, self._done + audio.shape[1])
        self._done += audio.shape[1]
        rising = _gain(places, self._fade_in)
        falling = _gain(self._samples - 1 - places, self._fade_out)
        return audio * (rising * falling).astype(np.float32)


def _gain(places: NDArray[np.int_], length: int) -> NDArray[np.float64]:
    """0 at place 0, and 1 from `length` on."""
    share = np.minimum(places / length, 1.0) if length else np.ones(len(places))
    gain: NDArray[np.float64] = 0.5 - 0.5 * np.cos(np.pi * share)
    return gain
