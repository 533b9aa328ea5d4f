"""Where a song's codes stand in the model's input: sliding windows and the delay pattern.

The model sees a song through windows of 30 s. Each next one starts a stride (18 s) later, and
what of it lies before the last one's end, the prompt, is known. Within a window codebook k lags
`delays[k]` columns behind, and column 0 holds no code at all: column s holds the code of frame
s - 1 - delays[k], or the special token where that is outside the window. What the model makes of
column s are the codes of column s + 1.

Source: "Simple and Controllable Music Generation" (Copet et al. 2023), and in audiocraft
`modules/codebooks_patterns.py` (DelayedPatternProvider) and `models/musicgen.py`
(`_generate_tokens`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from protocol.request import Codes

Frames = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """The same for all songs of a model. `special` is the token that stands for no code."""

    delays: tuple[int, ...]  # columns, by codebook
    special: int
    window: int  # frames

    @property
    def codebooks(self) -> int:
        return len(self.delays)

    @property
    def columns(self) -> int:
        """That the longest window has."""
        return self.window + max(self.delays)

    def window_of(self, frame: int, frames: int, stride: int) -> Window:
        """The window that makes `frame` of a song of `frames`; the next one starts `stride` on."""
        start = max(0, -(-(frame + 1 - self.window) // stride)) * stride
        return Window(self, start, min(self.window, frames - start), frame - start)


@dataclass(frozen=True)
class Window:
    """`length` frames of a song from frame `start` on, of which the first `prompt` are known."""

    layout: Layout
    start: int
    length: int
    prompt: int

    @property
    def end(self) -> int:
        """Columns that the model has to see."""
        return self.length + max(self.layout.delays)

    @cached_property
    def _delays(self) -> Frames:
        return np.array(self.layout.delays)[:, None]

    def columns(self, codes: Codes, first: int, count: int) -> Frames:
        """Tokens [codebooks, count] of the columns from `first` on; `codes` are the song's."""
        frames = np.arange(first - 1, first - 1 + count) - self._delays
        inside = (frames >= 0) & (frames < self.length)
        tokens = np.take_along_axis(codes, self.start + np.where(inside, frames, 0), axis=1)
        return np.where(inside, tokens, self.layout.special)

    def frames(self, column: int) -> Frames:
        """Where in the song the codes belong that the model makes of `column`: [codebooks]."""
        return self.start + column - self._delays[:, 0]

    def missing(self, frames: Frames) -> npt.NDArray[np.bool_]:
        """Which of them the window has to make: the others are of the prompt, or outside."""
        return (frames >= self.start + self.prompt) & (frames < self.start + self.length)

    def complete(self, columns: int) -> int:
        """Frames of the song that have all their codes once so many columns have been seen."""
        frames = columns - max(self.layout.delays)
        return self.start + min(max(frames, self.prompt), self.length)
