"""The way of a song's samples to its file: the table of its fields, and their work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from gateway.audio.fade import Fade
from protocol.constants import SAMPLE_RATE, Samples
from protocol.errors import InvalidField
from protocol.fields import Number, Text, row
from protocol.settings import MAX_SECONDS

ENDING, SHARE = 3.0, 0.1  # `ending: fade` takes so many seconds, or this share of a short file


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

    def check(self, samples: int) -> None:
        """Check the fields against each other, and for a file of so many samples per channel.

        Raises:
            InvalidField: it names the field, its value and the remedy.
        """
        if self.ending is not None and self.fade_out is not None:
            raise InvalidField.of_field("ending", "comes with fade_out; send one of them")
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

    def stages(self, samples: int) -> list[Callable[[Samples], Samples]]:
        """The work on each slice of a song, in order, for a file of so many samples."""
        fades = self._fades(samples)
        return [Fade(samples, *fades)] if any(fades) else []

    def _fades(self, samples: int) -> tuple[int, int]:
        """The samples of the fades at both ends of a file."""
        fade_out = self.fade_out or 0.0
        if self.ending == "fade":
            fade_out = min(ENDING, SHARE * samples / SAMPLE_RATE)
        return round((self.fade_in or 0.0) * SAMPLE_RATE), round(fade_out * SAMPLE_RATE)

    def values(self) -> dict[str, Any]:
        """The fields that are given."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}
