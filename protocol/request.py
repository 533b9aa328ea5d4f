"""The request for one song: the table of its fields, and the checks between them."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

from protocol.constants import (
    FRAME_RATE,
    MAX_MELODY_SECONDS,
    MAX_SAMPLE_RATE,
    MIN_SAMPLE_RATE,
    SAMPLE_RATE,
    SAMPLE_RATE_STEP,
    SAMPLES_PER_FRAME,
    UNKNOWN,
    Chroma,
    Codes,
    Samples,
)
from protocol.errors import InvalidField, SongEnded, TooManyChanges, WeightsChanged
from protocol.fields import (
    Array,
    Duration,
    Flag,
    Number,
    PitchClasses,
    Text,
    row,
    table,
)
from protocol.prompt import Prompt, Prompts, title
from protocol.section import MAX_SECTIONS, SETTINGS, Section, Sections, changed

MAX_REVISION = 64  # characters
REPLACED = ("prompt", "duration")  # by `sections`
DRAW = -1  # the seed of a request that wants another one, as many clients send it


def draw_seed() -> int:
    """32 bits are seeds enough, and every client's JSON holds them exactly."""
    return secrets.randbits(32)


@dataclass(frozen=True)
class GenerationRequest(Section):
    """One song to generate: that of one section, or of `sections`, which have the settings that
    they do not give from the song. The prompt of a song with sections is their title.

    `frames` is the length of the whole song. A request that continues a song which broke off holds
    all its `codes` so far, in `start` the samples per channel that its listener has, and in
    `arrival_time` its place in the queue. A request that continues other music holds that as
    `prompt_audio`.
    """

    prompt: str = row(Prompts("The music in words", absent="required without `sections`"))
    frames: int = row(
        Duration(
            "The seconds of the whole song, in frames of 20 ms; beyond 30 s the model sees it in "
            "windows",
            absent="required without `sections`",
        ),
        name="duration",
    )
    seed: int = row(
        Number(
            "The same seed and settings give the same song; -1 draws one",
            DRAW,
            2**63 - 1,
            whole=True,
            absent="random",
        ),
        factory=draw_seed,
    )
    extend_stride: float = row(
        Number("Seconds between the starts of two windows; more is faster and forgets more", 1, 29),
        18.0,
    )
    pace: str = row(
        Text(
            "`playback` makes the song at most 2 s ahead of its playback, so that a change is "
            "heard soon; `fast` as fast as it can",
            choices=("fast", "playback"),
        ),
        "fast",
    )
    sections: tuple[Section, ...] | None = row(
        Sections(
            "The song in parts, in place of `prompt` and `duration`: a list of objects in JSON, "
            "each with its own"
        ),
        None,
    )
    prompt_audio: Samples | None = row(
        Array(
            "The beginning of the song, 0.02 to 30 s: [channels, samples], full scale is 1",
            "FP32",
            http=False,
        ),
        None,
    )
    prompt_sample_rate: int = row(
        Number(
            f"Sample rate of `prompt_audio`, a multiple of {SAMPLE_RATE_STEP}",
            MIN_SAMPLE_RATE,
            MAX_SAMPLE_RATE,
            whole=True,
            http=False,
        ),
        SAMPLE_RATE,
    )
    melody: Samples | None = row(
        Array(
            f"The melody that the music follows, 0.02 to {MAX_MELODY_SECONDS:g} s, for a model "
            "that takes one: [channels, samples], full scale is 1",
            "FP32",
            http=False,
        ),
        None,
    )
    melody_sample_rate: int = row(
        Number(
            f"Sample rate of `melody`, a multiple of {SAMPLE_RATE_STEP}",
            MIN_SAMPLE_RATE,
            MAX_SAMPLE_RATE,
            whole=True,
            http=False,
        ),
        SAMPLE_RATE,
    )
    separate: bool = row(
        Flag(
            "Take the melody out of a mix with drums and bass first; false for one that is hummed, "
            "sung or played alone",
            http=False,
        ),
        True,
    )
    chroma: Chroma | None = row(
        PitchClasses(
            "The melody as pitch classes, from C (0) to B (11), in place of audio: [windows, "
            "columns], as a song with a melody has them"
        ),
        None,
    )
    codes: Codes | None = row(
        Array("All codes of the song so far: [codebooks, frames]", "INT32", http=False), None
    )
    start: int = row(
        Number(
            "Samples per channel to leave out of the response, at most those of `codes` or "
            "`prompt_audio`",
            0,
            2**63 - 1,
            whole=True,
            http=False,
        ),
        0,
    )
    revision: str | None = row(
        Text(
            "Revision of the weights that the song needs; other weights are refused",
            max_length=MAX_REVISION,
            http=False,
            absent="any",
        ),
        None,
    )
    arrival_time: int | None = row(
        Number(
            "When a song that broke off was accepted, in nanoseconds since 1970; it "
            "keeps its place in the queue",
            0,
            2**63 - 1,
            whole=True,
            http=False,
            absent="now",
        ),
        None,
    )

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / FRAME_RATE

    @property
    def samples(self) -> int:
        """Samples per channel of the whole song."""
        return self.frames * SAMPLES_PER_FRAME

    @property
    def stride(self) -> int:
        """Frames from the start of one window to the start of the next."""
        return round(self.extend_stride * FRAME_RATE)

    @cached_property
    def timeline(self) -> tuple[Section, ...]:
        """The sections; a song without them is one."""
        return self.sections or (self.as_section(self.prompt),)

    def with_sections(self, sections: Iterable[Section]) -> GenerationRequest:
        sections = tuple(sections)
        frames = sum(section.frames for section in sections)
        titles = (title(section.prompt) for section in sections)
        return replace(self, prompt="; ".join(titles), frames=frames, sections=sections)

    def changed(
        self, first: int, values: Mapping[str, Any], frames: int | None = None
    ) -> GenerationRequest:
        """The request with other values of a section's attributes from the frame `first` on, for so
        many frames, or to the end of the section that it lies in.

        Raises:
            SongEnded: the song ends before that frame.
            TooManyChanges: it would have more sections than a song may have.
        """
        if first >= self.frames:
            raise SongEnded("The song has ended, or its last frames are being made; make another.")
        ends = accumulate(section.frames for section in self.timeline)
        end = next(end for end in ends if end > first) if frames is None else first + frames
        sections = changed(self.timeline, first, end, values)
        if len(sections) > MAX_SECTIONS:
            have = f"The song has {len(self.timeline)} sections; {MAX_SECTIONS} are the most."
            raise TooManyChanges(have)
        return self.with_sections(sections)

    def as_section(self, prompt: Prompt) -> Section:
        settings = {name: getattr(self, name) for name in SETTINGS}
        return Section(prompt, self.frames, **settings)

    def named_timeline(self) -> Iterator[tuple[str, Section]]:
        """Each section, behind the beginning of its fields' names in an error."""
        for number, section in enumerate(self.timeline):
            yield f"sections[{number}]." if self.sections else "", section

    def under(self, section: Section) -> GenerationRequest:
        """The request with the settings of a section."""
        return replace(self, **{name: getattr(section, name) for name in SETTINGS})

    def following(self, chroma: Chroma) -> GenerationRequest:
        """The request with its melody as chroma, as far as that is known; the audio, which is
        large, stays for the rest."""
        return replace(self, melody=None if complete(chroma) else self.melody, chroma=chroma)

    def windows(self, length: int) -> int:
        """The windows of `length` frames that the song has."""
        return 1 + max(0, -(-(self.frames - length) // self.stride))

    @property
    def prompt_frames(self) -> int:
        """Frames that the request brings: of its codes, or whole ones of its audio."""
        if self.prompt_audio is not None:
            return whole_frames(self.prompt_audio, self.prompt_sample_rate)
        return 0 if self.codes is None else self.codes.shape[1]

    @property
    def next_frame(self) -> int:
        """The first frame that a change takes effect with, before the song goes on. The last codes
        of a frame come from positions behind it, at most as many as there are codebooks."""
        return self.prompt_frames + (0 if self.codes is None else len(self.codes))

    def values(self) -> dict[str, Any]:
        """The fields by the names of the table, which `parse_request` reads; those that are None
        are left out."""
        values = {field.name: getattr(self, field.attribute) for field in FIELDS.values()}
        values["duration"] = self.duration
        if self.sections:
            values["sections"] = [section.differences(self) for section in self.sections]
            for name in REPLACED:
                del values[name]
        return {name: value for name, value in values.items() if value is not None}

    def check_model(
        self, codebooks: int, vocab_size: int, window: int, columns: int, revision: str
    ) -> None:
        """Check that a model with these codebooks, this window (frames), so many columns of a
        melody for each window, and these weights can generate the song.

        Raises:
            InvalidField: it names the field, its value and the remedy.
            WeightsChanged: the song was begun with other weights.
        """
        if self.revision and self.revision != revision:
            raise WeightsChanged(
                f"REVISION: {self.revision!r} is not here; the weights are {revision!r} now"
            )
        if self.stride >= window:
            limit = f"less than {window / FRAME_RATE:g}, the window of this model"
            problem = f"is {self.extend_stride:g}; give {limit}"
            raise InvalidField.of_field("extend_stride", problem)
        self._check_melody(window, columns)
        if self.codes is None:
            return
        if len(self.codes) != codebooks:
            problem = f"has {len(self.codes)} codebooks; this model has {codebooks}"
            raise InvalidField.of_field("codes", problem)
        if (largest := self.codes.max(initial=0)) >= vocab_size:
            problem = f"holds {largest}; give 0 to {vocab_size - 1}"
            raise InvalidField.of_field("codes", problem)

    def _check_melody(self, window: int, columns: int) -> None:
        texts = {(section.prompt, section.negative_prompt) for section in self.timeline}
        if columns and len(texts) > 1:  # a prefix holds for the whole window
            problem = "change their words; send one prompt for a model that takes a melody"
            raise InvalidField.of_field("sections", problem, maxPrompts=1)
        for name in ("melody", "chroma"):
            if getattr(self, name) is not None and not columns:
                problem = "is not for this model; choose one that takes a melody"
                raise InvalidField.of_field(name, problem)
        shape = (self.windows(window), columns)
        if self.chroma is not None and self.chroma.shape != shape:
            problem = f"has the shape {list(self.chroma.shape)}; give {list(shape)} for this song"
            raise InvalidField.of_field("chroma", problem)


FIELDS = table(GenerationRequest)


def complete(chroma: Chroma) -> bool:
    """Whether the melody of each window is known."""
    return bool((chroma != UNKNOWN).all())


def whole_frames(audio: Samples, sample_rate: int) -> int:
    return audio.shape[1] * FRAME_RATE // sample_rate
