"""Where the codes of a sequence stand in the model's input: sliding windows and the delay pattern.

The model sees a sequence through windows of 30 s. The next window starts a stride (18 s) later, and
its frames before the end of the last window, its prompt, are known. Within a window codebook k is
delayed by `delays[k]` positions, and position 0 holds no code at all: position s holds the code of
frame s - 1 - delays[k], or the special token where that frame is outside the window. From position
s the model makes the codes of position s + 1.

Source: "Simple and Controllable Music Generation" (Copet et al. 2023), and in audiocraft
`modules/codebooks_patterns.py` (DelayedPatternProvider) and `models/musicgen.py`
(`_generate_tokens`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from protocol.constants import Codes

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DelayPattern:
    """The same for all sequences of a model. `special_token` stands where there is no code."""

    delays: tuple[int, ...]  # positions, by codebook
    special_token: int
    window: int  # frames

    @property
    def codebooks(self) -> int:
        return len(self.delays)

    @property
    def positions(self) -> int:
        """Positions of the longest window."""
        return self.window + max(self.delays)

    def window_of(self, frame: int, frames: int, stride: int) -> Window:
        """The window that makes `frame` of a sequence of `frames`; windows start every `stride`."""
        start = max(0, -(-(frame + 1 - self.window) // stride)) * stride
        return Window(self, start, min(self.window, frames - start), frame - start)


@dataclass(frozen=True)
class Window:
    """`length` frames of a sequence from frame `start` on; the first `prompt` ones are known."""

    pattern: DelayPattern
    start: int
    length: int
    prompt: int

    @property
    def positions(self) -> int:
        """Positions that the model has to see."""
        return self.length + max(self.pattern.delays)

    @cached_property
    def _delays(self) -> Integers:
        return np.array(self.pattern.delays)[:, None]

    def tokens(self, codes: Codes, first: int, count: int) -> Integers:
        """Tokens [codebooks, count] of the positions from `first` on; `codes` are the whole
        sequence's."""
        frames = np.arange(first - 1, first - 1 + count) - self._delays
        inside = (frames >= 0) & (frames < self.length)
        tokens = np.take_along_axis(codes, self.start + np.where(inside, frames, 0), axis=1)
        return np.where(inside, tokens, self.pattern.special_token)

    def frames(self, position: int) -> Integers:
        """The frames of the codes that the model makes from `position`: [codebooks]."""
        return self.start + position - self._delays[:, 0]

    def is_new(self, frames: Integers) -> npt.NDArray[np.bool_]:
        """Which of these frames the window has to make: not its prompt, and none outside."""
        return (frames >= self.start + self.prompt) & (frames < self.start + self.length)

    def write(self, codes: Codes, position: int, made: Integers) -> None:
        """Put what the model made from `position` on, [positions, codebooks], into the codes of the
        whole sequence."""
        for index, column in enumerate(made):
            frames = self.frames(position + index)
            new = self.is_new(frames)
            codes[new, frames[new]] = column[new]

    def frames_done(self, positions: int) -> int:
        """Frames of the sequence that have all their codes after so many positions."""
        frames = positions - max(self.pattern.delays)
        return self.start + min(max(frames, self.prompt), self.length)
