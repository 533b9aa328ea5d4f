"""The sections of a song: how long each lasts, and how it sounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, replace
from itertools import pairwise
from typing import Any

from protocol.constants import FRAME_RATE
from protocol.errors import InvalidField
from protocol.fields import Duration, Number, Row, Text, check, kind, row, table
from protocol.prompt import MAX_PROMPT, Prompt, Prompts, as_json, named_texts
from protocol.settings import MAX_SECONDS

MAX_SECTIONS = 32


@dataclass(frozen=True)
class Section:
    """`frames` of music, sampled with audiocraft's settings, which have its defaults."""

    prompt: Prompt = row(Prompts("The music in words"))
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

    def texts(self, within: str = "") -> Iterator[tuple[str, str]]:
        """Each text with the name that an error gives it, which begins with `within`."""
        yield from named_texts(f"{within}prompt", self.prompt)
        yield f"{within}negative_prompt", self.negative_prompt

    def values(self) -> dict[str, Any]:
        """The fields by the names of the table, as JSON has them."""
        settings = {name: getattr(self, name) for name in SETTINGS}
        prompt, duration = as_json(self.prompt), self.frames / FRAME_RATE
        return {"prompt": prompt, "duration": duration, **settings}

    def differences(self, song: Section) -> dict[str, Any]:
        """Those of `values` without the settings that the song has, too."""
        return {
            name: value
            for name, value in self.values().items()
            if name not in SETTINGS or value != getattr(song, name)
        }


def sections_of(values: list[dict[str, Any]]) -> tuple[Section, ...]:
    """The sections whose `values` these are."""
    parts = Sections("A timeline").check("sections", values)
    return tuple(Section(**part) for part in parts)


def check_change(value: Any) -> dict[str, Any]:
    """The attributes of a section that a change of a running song gives. With `frames` it lasts so
    long, else to the end of the section.

    Raises InvalidField.
    """
    names = ", ".join(SECTION_FIELDS)
    if not isinstance(value, dict):
        raise InvalidField(f"The change is {kind(value)}; send an object with some of {names}.")
    if unknown := value.keys() - SECTION_FIELDS.keys():
        name = min(unknown)[:50]
        raise InvalidField(f"A change has no field {name!r}; send some of {names}.", name)
    given = {name: one for name, one in value.items() if one is not None}
    attributes = check(CHANGE_FIELDS, given)
    if not attributes.keys() - {"frames"}:
        new = ", ".join(name for name in SECTION_FIELDS if name != "duration")
        raise InvalidField(f"The change gives nothing new; send some of {new}.")
    return attributes


def changed(
    timeline: Iterable[Section], first: int, end: int, values: Mapping[str, Any]
) -> tuple[Section, ...]:
    """The timeline whose frames from `first` to `end` have other values of a section's
    attributes."""
    parts, start = [], 0
    for section in timeline:
        stop = start + section.frames
        cuts = sorted({start, stop, *(frame for frame in (first, end) if start < frame < stop)})
        for begin, until in pairwise(cuts):
            part = replace(section, frames=until - begin)
            parts.append(replace(part, **values) if first <= begin < end else part)
        start = stop
    return tuple(parts)


SECTION_FIELDS = table(Section)
CHANGE_FIELDS = {name: replace(field, default=None) for name, field in SECTION_FIELDS.items()}
SETTINGS = [name for name, field in SECTION_FIELDS.items() if field.default is not MISSING]


@dataclass(frozen=True)
class Sections(Row):
    """A list of objects with the fields of a section; JSON text for Triton."""

    def check(self, name: str, value: Any) -> tuple[Mapping[str, Any], ...]:
        """The attributes that each section gives."""
        if not isinstance(value, list):
            raise InvalidField.of_field(name, f"is {kind(value)}; send a list of sections")
        if not 1 <= len(value) <= MAX_SECTIONS:
            problem = f"has {len(value)} sections; send {self.range}"
            raise InvalidField.of_field(name, problem, maxItems=MAX_SECTIONS)
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
