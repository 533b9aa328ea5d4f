"""The audio of one sequence: codes go through the codec, and chunks come out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musicgen_engine.model.streaming_codec import CodecInput, StreamingCodec
from protocol.constants import (
    FRAME_RATE,
    SAMPLES_PER_FRAME,
    Chroma,
    Codes,
    Samples,
)
from protocol.errors import NotFinite
from protocol.request import GenerationRequest

# In frames of audio. Chunks are short for two seconds: a listener has no audio in reserve at first.
SHORT_UNTIL, SHORT_CHUNK = 2 * FRAME_RATE, FRAME_RATE // 2
CHUNK = FRAME_RATE


@dataclass(frozen=True)
class AudioChunk:
    """`codes` are those that the codec got since the last chunk, ahead of `audio` by its
    look-ahead. The first chunk has all codes of a beginning that the request brought as audio: with
    them the sequence can be resumed from any chunk. `chroma` is the melody of all windows, as far
    as it is known."""

    audio: Samples
    codes: Codes
    chroma: Chroma
    last: bool


class AudioStream:
    """Cuts a sequence into the same chunks wherever it resumes, so that its samples are the same to
    the bit."""

    def __init__(self, request: GenerationRequest, codec: StreamingCodec) -> None:
        self._frames = request.frames
        self._codes_known = request.prompt_frames
        self._codes_sent = 0 if request.codes is None else request.codes.shape[1]
        first, self._skip = divmod(request.start, SAMPLES_PER_FRAME)
        self._stream = codec.stream(first)
        self._lookahead = codec.lookahead
        self._decoded = 0  # frames that the codec got
        self.ended = False

    def ready(self, frames_done: int) -> bool:
        """Whether there are enough frames for the codec's next piece of work."""
        return not self.ended and frames_done >= self._next_end()

    def _next_end(self) -> int:
        playable = max(0, self._decoded - self._lookahead)
        chunk = SHORT_CHUNK if playable < SHORT_UNTIL else CHUNK
        return min(playable + chunk + self._lookahead, self._frames)

    def next_input(self, codes: Codes) -> CodecInput:
        """The codec's next piece of work, of the sequence's [codebooks, frames]."""
        end = self._next_end()
        return CodecInput(self._stream, codes[:, self._decoded : end], last=end == self._frames)

    def chunk(self, audio: Samples, codes: Codes, chroma: Chroma) -> AudioChunk | None:
        """The codec made `audio` of the next input. None while a resumed sequence catches up.
        `chroma` goes with the codes. Raises NotFinite."""
        if not np.isfinite(audio).all():
            raise NotFinite
        self._decoded = end = self._next_end()
        self.ended = end == self._frames
        if not (audio.size or self.ended):
            return None
        audio, self._skip = audio[:, self._skip :], 0
        known = max(self._codes_known, end)
        new, self._codes_sent = codes[:, self._codes_sent : known], known
        return AudioChunk(audio, new, chroma, last=self.ended)
