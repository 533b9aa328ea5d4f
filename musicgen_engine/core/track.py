"""A song under way: the codes it has so far, what the model sees next, what goes out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musicgen_engine.model.streaming_codec import Codec
from musicgen_engine.model.transformer import Piece
from musicgen_engine.core.scheduler import Task
from musicgen_engine.model.delay_pattern import Frames, Layout
from protocol.request import FRAME_RATE, SAMPLES_PER_FRAME, Codes, Samples

# In frames of audio. Chunks are short at first: the listener waits, and then has little in reserve.
OPENING, SHORT_CHUNK = 2 * FRAME_RATE, FRAME_RATE // 2
CHUNK = FRAME_RATE


@dataclass(frozen=True)
class Chunk:
    """What goes out at once. `codes` are those that the codec was given since the last chunk: ahead
    of `audio` by its look-ahead, and the same whenever the song's turn with the codec comes."""

    audio: Samples
    codes: Codes
    last: bool


class Track:
    """Frames are complete (all their codes drawn) before they are given to the codec, and given
    before they are played. Each of the three counts up to the song's frames."""

    def __init__(self, task: Task, held: Codes | None, layout: Layout, codec: Codec) -> None:
        """`held` are the codes that the song goes on from."""
        song = task.song
        self.task = task
        self._layout = layout
        self._frames = song.frames
        self._codes = np.zeros((layout.codebooks, song.frames), np.int32)
        self._complete = 0
        if held is not None:
            self._complete = held.shape[1]
            self._codes[:, : self._complete] = held
        self._told = 0 if song.codes is None else self._complete  # frames the listener has codes of
        self._first, self._cut = divmod(song.start, SAMPLES_PER_FRAME)
        self._audio = codec.stream(self._first)
        self._lookahead = codec.reach
        self._given = 0
        self.ended = False
        self._open_window()

    @property
    def drawn(self) -> bool:
        """Whether the model has made all codes of the song."""
        return self._complete == self._frames

    @property
    def prefilling(self) -> bool:
        """Whether the model has yet to see columns whose successors are known."""
        return not self.drawn and self._column < self._window.prompt

    def piece(self, limit: int) -> Piece:
        """What the model sees next: one column; up to `limit` of them while prefilling."""
        count = min(limit, self._window.prompt - self._column) if self.prefilling else 1
        tokens = self._window.columns(self._codes, self._column, count)
        return Piece(self.task.slot, self._column, tokens)

    def prefilled(self, count: int) -> None:
        """The model has seen so many more columns."""
        self._column += count

    def next_frames(self) -> Frames:
        """[codebooks]: the frames of the codes that the next column gives."""
        return self._window.frames(self._column)

    def write(self, frames: Frames, codes: Codes) -> None:
        """What the model made of the next column, and for which frames: [codebooks]."""
        new = self._window.missing(frames)
        self._codes[new, frames[new]] = codes[new]
        self._column += 1
        self._complete = self._window.complete(self._column)
        if self._column == self._window.end:
            self._open_window()
        self.task.frames_done = self._complete

    def _open_window(self) -> None:
        if not self.drawn:
            self._window = self._layout.window_of(
                self._complete, self._frames, self.task.song.stride
            )
            self._column = 0

    @property
    def due(self) -> bool:
        """Whether the codec has work: enough frames for a chunk, or some to catch up."""
        return not self.ended and self._complete >= self._until()

    def _until(self) -> int:
        """The frames that the codec is given next go up to here. They are cut the same wherever the
        song is taken up: so its samples are the same to the bit."""
        playable = max(0, self._given - self._lookahead)
        chunk = SHORT_CHUNK if playable < OPENING else CHUNK
        return min(playable + chunk + self._lookahead, self._frames)

    def play(self) -> Chunk | None:
        """Gives the codec what is due; None while it catches up with where the song goes on."""
        until = self._until()
        self.ended = until == self._frames
        audio = self._audio.push(self._codes[:, self._given : until], last=self.ended)
        self._given = until
        if not (audio.size or self.ended):
            return None
        audio, self._cut = audio[:, self._cut :], 0
        codes = self._codes[:, self._told : until]
        self._told = max(self._told, until)
        return Chunk(audio, codes, last=self.ended)
