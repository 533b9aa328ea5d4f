"""The way of a song's samples to its file: the table of its fields, and their work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from gateway.audio.fade import Fade
from gateway.audio.loop import BLEND, Loop
from gateway.audio.loudness import BLOCK, Level
from protocol.constants import SAMPLE_RATE, SAMPLES_PER_FRAME, Samples
from protocol.errors import InvalidField
from protocol.fields import Flag, Number, Text, row
from protocol.request import GenerationRequest
from protocol.settings import MAX_SECONDS

ENDING, SHARE = 3.0, 0.1  # `ending: fade` takes so many seconds, or this share of a short file
BEATS = 4  # of a bar
LEAD = 1.0  # seconds of a song before its loop, where no bar is known


@dataclass(frozen=True)
class Mastering:
    fade_in: float | None = row(
        Number("Seconds in which the beginning rises from silence", 0, MAX_SECONDS), None
    )
    fade_out: float | None = row(
        Number("Seconds in which the end falls to silence", 0, MAX_SECONDS, absent="by `ending`"),
        None,
    )
    ending: str | None = row(
        Text(
            f"An exact cut, or a `fade_out` of {ENDING:g} s or of a tenth of the file, whichever "
            "is less",
            choices=("cut", "fade"),
            absent="`cut`",
        ),
        None,
    )
    loop: bool | None = row(
        Flag("Whether the file's end goes on into its beginning", absent="false"), None
    )
    bars: int | None = row(
        Number(
            f"The length of a loop in bars of {BEATS} beats, in place of `duration`",
            1,
            1_000,
            whole=True,
        ),
        None,
    )
    bpm: float | None = row(
        Number("The beats a minute of `bars`; name them in the prompt, too", 20, 400), None
    )
    loudness: float | None = row(
        Number(
            "The loudness of the file in LUFS; the reply begins when the song is whole",
            -30,
            -6,
            absent="as the model makes it",
        ),
        None,
    )

    def __post_init__(self) -> None:
        """Check the fields against each other.

        Raises:
            InvalidField: it names the field and the remedy.
        """
        if self.ending is not None and self.fade_out is not None:
            raise InvalidField.of_pair("ending", "fade_out")
        for name in ("fade_in", "fade_out", "ending"):
            if self.loop and getattr(self, name) is not None:
                raise InvalidField.of_pair(name, "loop")
        if self.bars is not None and not self.loop:
            raise InvalidField.of_field("bars", "comes without loop; send loop with it, as true")
        for name, other in (("bars", "bpm"), ("bpm", "bars")):
            if getattr(self, name) is not None and getattr(self, other) is None:
                raise InvalidField.of_field(name, f"comes without {other}; send both")

    @property
    def bar(self) -> float | None:
        """The seconds of a bar."""
        return None if self.bpm is None else BEATS * 60 / self.bpm

    @property
    def duration(self) -> float | None:
        """The seconds of all bars."""
        return None if self.bar is None or self.bars is None else self.bars * self.bar

    def samples(self, request: GenerationRequest) -> int:
        """Samples per channel of the file."""
        if self.duration is not None:
            return round(self.duration * SAMPLE_RATE)
        return request.samples - request.start

    def check(self, request: GenerationRequest, longest: float = MAX_SECONDS) -> None:
        """Check the fields for a song of at most `longest` seconds.

        Raises:
            InvalidField: it names the field, its value and the remedy.
        """
        samples = self.samples(request)
        if self.loudness is not None and samples < BLOCK * SAMPLE_RATE:
            problem = f"needs a file of {BLOCK:g} s; make it longer than {samples / SAMPLE_RATE:g}"
            raise InvalidField.of_field("loudness", problem)
        if self.loop:
            name = "bars" if self.bars else "sections" if request.sections else "duration"
            lead, blend = self._lead / SAMPLE_RATE, BLEND / SAMPLE_RATE
            if samples < BLEND or (samples + self._lead) / SAMPLE_RATE > longest:
                limits = f"{blend:g}, its blend, and at most {longest - lead:g}"
                reason = f"for its song starts {lead:g} s earlier"
                problem = f"makes {samples / SAMPLE_RATE:g} s; give at least {limits}, {reason}"
                least, most = blend, longest - lead  # seconds
                if self.bars and self.bar:
                    least, most = 1, int(most // self.bar)
                raise InvalidField.of_field(name, problem, minimum=least, maximum=most)
        fade_in, fade_out = self._fades(samples)
        if fade_in > samples:
            length = f"{samples / SAMPLE_RATE:g}, the length of the file"
            problem = f"is {self.fade_in:g}; give at most {length}"
            raise InvalidField.of_field("fade_in", problem)
        if fade_in + fade_out > samples:
            name = "ending" if self.fade_out is None else "fade_out"
            left = (samples - fade_in) / SAMPLE_RATE
            problem = f"takes {fade_out / SAMPLE_RATE:g} s, fade_in leaves {left:g} s; shorten one"
            raise InvalidField.of_field(name, problem)

    def lengthened(self, request: GenerationRequest) -> GenerationRequest:
        """The request for the song that the file is made of. That of a loop starts earlier."""
        if not self.loop:
            return request
        frames = -(-(self._lead + self.samples(request)) // SAMPLES_PER_FRAME)
        sections = request.sections
        if sections:
            first = replace(sections[0], frames=sections[0].frames + frames - request.frames)
            sections = (first, *sections[1:])
        return replace(request, frames=frames, sections=sections)

    def stages(self, samples: int) -> list[Callable[[Samples], Samples]]:
        """The work on each slice of a song, in order, for a file of so many samples."""
        if self.loop:
            return [Loop(samples, self._lead)]
        fades = self._fades(samples)
        return [Fade(samples, *fades)] if any(fades) else []

    @property
    def _lead(self) -> int:
        """Samples of the song before its loop: a bar, so that the loop starts with one."""
        return round((self.bar or LEAD) * SAMPLE_RATE)

    def _fades(self, samples: int) -> tuple[int, int]:
        """The samples of the fades at both ends of a file."""
        fade_out = self.fade_out or 0.0
        if self.ending == "fade":
            fade_out = min(ENDING, SHARE * samples / SAMPLE_RATE)
        return round((self.fade_in or 0.0) * SAMPLE_RATE), round(fade_out * SAMPLE_RATE)

    def tags(self, samples: int, level: Level | None) -> dict[str, str]:
        """The tags of a file of so many samples: of a loop, those that players know."""
        loop = {"loopstart": "0", "looplength": str(samples)} if self.loop else {}
        return loop | ({"loudness": f"{level.loudness:.1f} LUFS"} if level else {})

    def values(self) -> dict[str, Any]:
        """The fields that are given; None for a field that they replace."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in values.items() if value is not None}
        return {**given, "duration": None} if self.bars else given
