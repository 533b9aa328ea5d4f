"""A loop, whose end goes on into its beginning."""

from __future__ import annotations

import numpy as np

from protocol.constants import SAMPLE_RATE, Samples

BLEND = SAMPLE_RATE // 20  # samples; a longer one lets two rhythms be heard
SHARE = (np.arange(BLEND, dtype=np.float32) + 0.5) / BLEND
FALLING, RISING = np.cos(np.pi / 2 * SHARE), np.sin(np.pi / 2 * SHARE)  # of equal power together


class Loop:
    """Cuts a loop of `samples` per channel out of a song that begins `lead` samples before it,
    slice by slice: over its last BLEND samples the loop becomes the music before its first."""

    def __init__(self, samples: int, lead: int) -> None:
        self._samples = samples
        self._place = -lead  # of the next slice, in the loop
        self._before: list[Samples] = []

    def __call__(self, audio: Samples) -> Samples:
        place = self._place
        self._place += audio.shape[1]

        def between(begin: int, end: int) -> Samples:
            return audio[:, max(0, begin - place) : max(0, end - place)]

        self._before.append(between(-BLEND, 0).copy())  # a view would keep all of the slice
        loop = between(0, self._samples).copy()
        tail = between(start := self._samples - BLEND, self._samples)
        if length := tail.shape[1]:
            part = slice(first := max(0, place - start), first + length)
            before = np.concatenate(self._before, axis=1)[:, part]
            loop[:, -length:] = tail * FALLING[part] + before * RISING[part]
        return loop
