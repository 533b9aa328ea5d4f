"""One request on its way through the engine: its codes, and what the model sees next."""

from __future__ import annotations

import enum
import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from musicgen_engine.model.guidance import SLOT_ROWS, rows_of, slots_of
from protocol.constants import FRAME_RATE, Chroma, Codes, Samples
from protocol.errors import ServiceError, TooManyChanges
from protocol.prompt import Prompt
from protocol.request import GenerationRequest, complete
from protocol.section import Section

if TYPE_CHECKING:
    from musicgen_engine.core.audio_stream import AudioStream
    from musicgen_engine.model.conditioning import Conditioning
    from musicgen_engine.model.delay_pattern import DelayPattern, Integers, Window

# Where a conditioning holds: for its texts and, with a melody, its window, by the frame that this
# starts with.
Scope: TypeAlias = tuple[Prompt, str, int]
Check: TypeAlias = Callable[[GenerationRequest], None]


AHEAD = 2.0  # seconds that a song is made ahead of its playback, by its pace
CHANGE_INTERVAL = 0.25  # seconds between two changes of a song


class SequenceStatus(enum.Enum):
    WAITING = "waiting"  # for a slot
    PREFILL = "prefill"  # the model has yet to see positions whose codes are known
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(eq=False)
class Sequence:
    """A sequence waits, gets a slot, and is then encoded, prefilled and decoded. The separator
    takes its melody out of a mix, window by window: for the first one before it has a slot.

    Its first slot has the rows of its prompt and of no text. A blend of prompts has more rows, and
    more slots for them: as many as its largest blend, from beginning to end.

    A position is always computed under the conditioning of its own frame: in decode, in prefill, in
    later windows and after a resumption. Position p of a window makes codes of frame
    `window.start + p` and of earlier ones; that is its own frame. The positions of a prefix come
    first in a window, and are negative.
    """

    id: int
    request: GenerationRequest
    request_id: str = ""  # the caller's name for it
    arrival: float = field(default_factory=time.monotonic)
    slots: list[int] = field(default_factory=list)
    finished: bool = False
    abort: ServiceError | None = None  # why it is to end
    # By window, [1, samples]: those that are taken out of the mix and not encoded yet.
    melodies: dict[int, Samples] = field(default_factory=dict)
    frames_done: int = field(init=False)  # frames that have all their codes

    # From `begin` on.
    codes: Codes | None = None  # [codebooks, frames]
    output: AudioStream | None = None
    conditionings: dict[Scope, Conditioning] = field(default_factory=dict)
    # By row: the first positions of the prefix that the cache has already, from another sequence or
    # from another window of this one.
    cached: Many[int] = ()

    def __post_init__(self) -> None:
        self.prompt_frames = self.frames_done = self.request.prompt_frames
        self._checked = False
        self._changed = -math.inf  # the time of the last change
        self._find_starts()
        self.position = 0  # the next one in the window
        self._rows = 0  # guidance rows that have seen the window's positions

    def _find_starts(self) -> None:
        lengths = [section.frames for section in self.request.timeline]
        self._starts = [0, *accumulate(lengths[:-1])]  # frames with which the sections begin

    @property
    def status(self) -> SequenceStatus:
        if self.finished:
            return SequenceStatus.FINISHED
        if not self.slots:
            return SequenceStatus.WAITING
        prefill = self.codes is None or (not self.all_decoded and self._left_to_prefill > 0)
        return SequenceStatus.PREFILL if prefill else SequenceStatus.RUNNING

    @property
    def ended(self) -> bool:
        """Whether nothing more of it is wanted."""
        return self.finished or self.abort is not None

    @property
    def resumed(self) -> bool:
        """Whether it was accepted before and lost its engine."""
        return self.request.arrival_time is not None

    @property
    def place(self) -> float:
        """Its order in the queue: resumed sequences as they were accepted, then new ones."""
        return math.inf if self.request.arrival_time is None else self.request.arrival_time

    @property
    def frames_left(self) -> int:
        return self.request.frames - self.frames_done

    def windows_left(self, length: int) -> int:
        """The windows of `length` frames that have yet to begin."""

        request = self.request
        return request.windows(length) - replace(request, frames=self.frames_done).windows(length)

    @property
    def all_decoded(self) -> bool:
        return self.frames_left == 0

    @property
    def awaits_codes(self) -> bool:
        """Whether the codes of all positions of the window are on their way."""
        if self.codes is None or self.all_decoded:
            return False
        return self.position == self.window.positions

    def check(self, check: Check) -> None:
        """Raises why the model cannot generate it, as `check`. A sequence is checked once: texts
        are tokenized for it."""
        if not self._checked:
            check(self.request)
            self._checked = True

    def mixed(self, length: int) -> list[int]:
        """The windows, of `length` frames, whose melody has to be taken out of its mix."""
        return [number for number in range(self.request.windows(length)) if self._is_mixed(number)]

    @property
    def waits_for_melody(self) -> bool:
        """Whether the separator has yet to give the melody of the next position's window."""
        return self._is_mixed(0 if self.codes is None else self._window_number)

    def _is_mixed(self, number: int) -> bool:
        request = self.request
        if request.melody is None or not request.separate:
            return False
        return not (number in self.melodies or self._follows(number))

    def _follows(self, number: int) -> bool:
        """Whether the melody of this window is encoded. A request that waits for its model to load
        is not checked yet: it may have any number of windows."""
        chroma = self.request.chroma
        return chroma is not None and number < len(chroma) and complete(chroma[number])

    def follow(self, chroma: Chroma) -> None:
        """The melody has been encoded, as far as it is known: [windows, columns]."""
        self.request = self.request.following(chroma)
        for number in [*self.melodies]:  # the separator may add another one now
            if self._follows(number):
                del self.melodies[number]

    def begin(self, pattern: DelayPattern, prompt: Codes | None, output: AudioStream) -> None:
        """The sequence has its slot, and `prompt`: the codes that it starts with."""
        self._pattern = pattern
        self.output = output
        self.request = replace(self.request, prompt_audio=None)  # it is large, and encoded now
        self.codes = np.zeros((pattern.codebooks, self.request.frames), np.int32)
        if prompt is not None:
            self.frames_done = prompt.shape[1]
            self.codes[:, : self.frames_done] = prompt
        # As frames since the clock's zero, so that all songs at this pace are due together.
        self._begun = math.ceil(time.monotonic() * FRAME_RATE) - self.frames_done
        self._open_window()

    @property
    def slot(self) -> int:
        """The first one."""
        return self.slots[0]

    @property
    def slots_needed(self) -> int:
        return slots_needed(self.request)

    @property
    def rows_slots(self) -> list[int]:
        """The slots of the next position's rows."""
        return self.slots[: slots_of(self.section.prompt)]

    def joining_rows(self) -> Iterator[tuple[int, int]]:
        """Slot and row of each guidance row that has not seen the window's positions so far. The
        first row's are what it would have seen."""
        rows = rows_of(self.section.prompt)
        if self.position > 0:
            for row in range(self._rows, rows):
                yield self.slots[row // SLOT_ROWS], row % SLOT_ROWS
        self._rows = rows

    @property
    def section(self) -> Section:
        """That of the next position's frame."""
        return self.request.timeline[self._section_number]

    @property
    def _section_number(self) -> int:
        return bisect_right(self._starts, self._frame) - 1

    @property
    def scope(self) -> Scope:
        """That of the next position."""
        return self.scope_of(self.section)

    def scope_of(self, section: Section) -> Scope:
        """That of a section in this window."""
        melody = self.request.chroma is not None
        return section.prompt, section.negative_prompt, self.window.start if melody else 0

    @property
    def chroma(self) -> Chroma | None:
        """The window's part of the melody: [1, columns]."""
        if self.request.chroma is None:
            return None
        return self.request.chroma[[self._window_number]]

    @property
    def _window_number(self) -> int:
        return self.window.start // self.request.stride

    def condition(self, scope: Scope, conditioning: Conditioning) -> None:
        """The positions to come of this scope have this conditioning."""
        self.conditionings[scope] = conditioning
        if scope == self.scope:
            self.position -= conditioning.prefix_length

    @property
    def needs_encoding(self) -> bool:
        """Whether a text or audio is to be encoded, for the next position or a later one."""
        return bool(self.melodies) or self.codes is None or self.section_to_encode is not None

    @property
    def section_to_encode(self) -> Section | None:
        """The section whose texts are to be encoded: that of the next position, or the one behind
        it, ahead of time."""
        if not self._goes_on:
            return None
        number = self._section_number
        for section in self.request.timeline[number : number + 2]:
            if self.scope_of(section) not in self.conditionings:
                return section
        return None

    @property
    def ready(self) -> bool:
        """Whether its next position can be computed."""
        if self.codes is None or not self._goes_on or self.due > time.monotonic():
            return False
        return self.scope in self.conditionings

    @property
    def _goes_on(self) -> bool:
        """Whether it has a next position, and knows the melody for it."""
        return not (self.all_decoded or self.awaits_codes or self.waits_for_melody)

    @property
    def due(self) -> float:
        """The time from which on the next position may be computed. A prefill need not wait."""
        if self.request.pace == "fast" or self.codes is None or self._left_to_prefill > 0:
            return -math.inf
        return (self._begun + self._frame) / FRAME_RATE - AHEAD

    @property
    def next_frame(self) -> int:
        """The first frame of which no position is computed, in this window or an earlier one: a
        change takes effect with it. The last codes of a frame come from positions behind it."""
        if self.codes is None:
            return self.request.next_frame
        if self.all_decoded:
            return self.request.frames
        behind = max(self._pattern.delays) if self.frames_done else 0
        return max(self._frame, self.frames_done + behind)

    def change(self, values: dict[str, Any], check: Check) -> int:
        """Change the attributes of the section from the next frame on; returns that frame. `check`
        raises why the model cannot generate the song so.

        Raises:
            SongEnded, TooManyChanges
        """
        first, now = self.next_frame, time.monotonic()
        if self.ended:
            first = self.request.frames
        frames = values.pop("frames", None)
        request = self.request.changed(first, values, frames)
        if now - self._changed < CHANGE_INTERVAL:
            raise TooManyChanges("The song has just been changed; try again in a second.")
        check(request)
        self.request, self._changed = request, now
        self._find_starts()
        if first == 0:  # also in the middle of a prefix, which may be another one now
            self.position = 0
            self.conditionings.clear()
        return first

    @property
    def rows(self) -> int:
        """Those of the next position's guidance."""
        return self.conditionings[self.scope].guidance.rows

    @property
    def new_rows(self) -> int:
        """Those of the next position that are to be computed."""
        return self.rows - len(self._before_new_rows)

    @property
    def _before_new_rows(self) -> list[int]:
        """For each row that the cache has at the next position: the number of positions, from that
        one on, that it has."""
        first = self.conditionings[self.scope].prefix_length + self.position
        return [cached - first for cached in self.cached if cached > first]

    def prefill_length(self, limit: int) -> int:
        """Positions of the next chunk of a prefill, all of one section and with the same rows to
        compute."""
        bounds = [*self._before_next_section, *self._before_new_rows]
        return min([limit, self._left_to_prefill, *bounds])

    def decode_length(self, limit: int) -> int:
        """Positions that can be decoded without a look at their codes, all of one section."""
        return min([limit, self.window.positions - self.position, *self._before_next_section])

    @property
    def _before_next_section(self) -> list[int]:
        """The number of positions before the next section, if there is one."""
        later = self._starts[self._section_number + 1 :]
        return [start - self.window.start - self.position for start in later[:1]]

    def tokens(self, count: int) -> Integers:
        """The next tokens for the model: [codebooks, count]."""
        assert self.codes is not None
        return self.window.tokens(self.codes, self.position, count)

    def advance(self, count: int) -> None:
        """The model has seen, or is about to see, the next `count` positions."""
        self.position += count

    def append(self, position: int, made: Integers) -> None:
        """The model made these codes from `position` on: [positions, codebooks]."""
        assert self.codes is not None
        self.window.write(self.codes, position, made)
        end = position + len(made)
        self.frames_done = self.window.frames_done(end)
        if end == self.window.positions:
            self._open_window()

    @property
    def _frame(self) -> int:
        """The frame of the next position."""
        return self.window.start + max(0, self.position)

    @property
    def _left_to_prefill(self) -> int:
        return self.window.prompt - self.position

    def _open_window(self) -> None:
        if not self.all_decoded:
            stride = self.request.stride
            self.window: Window = self._pattern.window_of(
                self.frames_done, self.request.frames, stride
            )
            self.position = 0


def slots_needed(request: GenerationRequest) -> int:
    return max(slots_of(section.prompt) for section in request.timeline)
