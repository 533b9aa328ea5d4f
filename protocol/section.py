"""The sections of a song: how long each lasts, and how it sounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, replace
from typing import Any

from protocol.constants import FRAME_RATE
from protocol.errors import InvalidField
from protocol.fields import Duration, Number, Row, Text, check, kind, row, table
from protocol.settings import MAX_SECONDS

MAX_PROMPT = 2_000  # characters
MAX_SECTIONS = 32


@dataclass(frozen=True)
class Section:
    """`frames` of music, sampled with audiocraft's settings, which have its defaults."""

    prompt: str = row(Text("The music in words", max_length=MAX_PROMPT))
    frames: int = row(
        Duration(
            "The seconds of the section, in frames of 20 ms",
            least=1 / FRAME_RATE,
            high=MAX_SECONDS,
        ),
        name="duration",
    )
    negative_prompt: str = row(
        Text(
            "The music to lead away from, in words: guidance starts from it, not from no text",
            max_length=MAX_PROMPT,
        ),
        "",
    )
    temperature: float = row(
        Number("Temperature of sampling; below 0.01 it takes the likeliest token", 0, 100), 1.0
    )
    top_k: int = row(
        Number("Sample among the k likeliest tokens; 0 turns it off", 0, 1_000_000, whole=True), 250
    )
    top_p: float = row(
        Number("Sample within this share of probability instead of `top_k`; 0 turns it off", 0, 1),
        0.0,
    )
    cfg_coef: float = row(Number("Guidance: how closely the music follows the prompt", 0, 100), 3.0)

    def differences(self, song: Section) -> dict[str, Any]:
        """The fields by the names of the table: the settings only where they are not the song's."""
        settings = {name: getattr(self, name) for name in SETTINGS}
        return {
            "prompt": self.prompt,
            "duration": self.frames / FRAME_RATE,
            **{name: one for name, one in settings.items() if one != getattr(song, name)},
        }


SECTION_FIELDS = table(Section)
SETTINGS = [name for name, field in SECTION_FIELDS.items() if field.default is not MISSING]


@dataclass(frozen=True)
class Sections(Row):
    """A list of objects with the fields of a section; JSON text for Triton."""

    def check(self, name: str, value: Any) -> tuple[Mapping[str, Any], ...]:
        """The attributes that each section gives."""
        if not isinstance(value, list):
            raise InvalidField.of_field(name, f"is {kind(value)}; send a list of sections")
        if not 1 <= len(value) <= MAX_SECTIONS:
            raise InvalidField.of_field(name, f"has {len(value)} sections; send {self.range}")
        return tuple(self._attributes(f"{name}[{n}]", one) for n, one in enumerate(value))

    def _attributes(self, name: str, value: Any) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            problem = f"is {kind(value)}; send an object with prompt and duration"
            raise InvalidField.of_field(name, problem)
        given = {key: one for key, one in value.items() if one is not None or key not in SETTINGS}
        if unknown := given.keys() - SECTION_FIELDS.keys():
            problem = f"has the field {min(unknown)[:50]!r}; send {', '.join(SECTION_FIELDS)}"
            raise InvalidField.of_field(name, problem)
        fields = {
            f"{name}.{key}": replace(one, name=f"{name}.{key}")
            for key, one in SECTION_FIELDS.items()
        }
        return check(fields, {f"{name}.{key}": one for key, one in given.items()})

    @property
    def range(self) -> str:
        return f"1 to {MAX_SECTIONS} of them"

    @property
    def schema(self) -> dict[str, Any]:
        properties = {
            name: {"description": f"{field.row.doc}.", **field.row.schema}
            for name, field in SECTION_FIELDS.items()
        }
        required = [name for name in SECTION_FIELDS if name not in SETTINGS]
        section = {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }
        return {"type": "array", "minItems": 1, "maxItems": MAX_SECTIONS, "items": section}

    @property
    def tensor(self) -> tuple[str, list[int]]:
        return "STRING", [1]
