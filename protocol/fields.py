"""The rows of a table of request fields.

A row is the metadata of a dataclass field, so the dataclass is the table:

    top_k: int = row(Number("Sample among the k likeliest tokens", 0, 1_000_000, whole=True), 250)

HTTP validation, Triton's inputs, the engine's validation, `/openapi.json` and the tables of the
documents all come from these rows.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import MISSING, dataclass
from typing import Any

import numpy as np

from protocol.constants import FRAME_RATE, PITCH_CLASSES, UNKNOWN, input_name
from protocol.errors import InvalidField

KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


@dataclass(frozen=True)
class Row:
    """The meaning of a field, in one sentence, and its right values."""

    doc: str
    _: dataclasses.KW_ONLY
    http: bool = True  # a field of `POST /generate`, too
    absent: str = "none"  # what the documents call a default that is no value

    def check(self, name: str, value: Any) -> Any:
        """Return the value as a request holds it. Raise InvalidField, which names `name`."""
        raise NotImplementedError

    @property
    def range(self) -> str:
        """The values that are right, in words."""
        return ""

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the field."""
        raise NotImplementedError

    @property
    def tensor(self) -> tuple[str, list[int]]:
        """Triton's data type and dimensions."""
        raise NotImplementedError


@dataclass(frozen=True)
class Text(Row):
    """`choices` are in lower case; callers may write them in upper case, too."""

    max_length: int | None = None  # characters
    choices: tuple[str, ...] = ()

    def check(self, name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise InvalidField.of_field(name, f"is {kind(value)}; send text")
        try:
            value.encode()
        except UnicodeEncodeError:  # JSON can write half of a surrogate pair, UTF-8 cannot
            problem = "holds half a character; send whole Unicode"
            raise InvalidField.of_field(name, problem) from None
        if self.max_length is not None and len(value) > self.max_length:
            problem = f"has {len(value)} characters; shorten it to {self.max_length}"
            raise InvalidField.of_field(name, problem, maxLength=self.max_length)
        if not self.choices:
            return value
        if value.lower() not in self.choices:
            problem = f"is {value[:100]!r}; give {', '.join(self.choices)}"
            raise InvalidField.of_field(name, problem)
        return value.lower()

    @property
    def range(self) -> str:
        if self.choices:
            return ", ".join(f"`{choice}`" for choice in self.choices)
        return f"at most {self.max_length:,} characters" if self.max_length else ""

    @property
    def schema(self) -> dict[str, Any]:
        limits = {"maxLength": self.max_length, "enum": list(self.choices)}
        return {"type": "string", **{name: limit for name, limit in limits.items() if limit}}

    @property
    def tensor(self) -> tuple[str, list[int]]:
        return "STRING", [1]


@dataclass(frozen=True)
class Number(Row):
    """`low` to `high`, both included, or `above` the low one."""

    low: float
    high: float
    whole: bool = False
    above: bool = False

    def check(self, name: str, value: Any) -> float:
        if not is_number(value):
            raise InvalidField.of_field(name, f"is {kind(value)}; send a number", **self.schema)
        if not self.low <= value <= self.high or (self.above and value == self.low):
            problem = f"is {shown(value)}; give {self.range}"
            raise InvalidField.of_field(name, problem, **self.schema)
        if not self.whole:
            return float(value)
        if value != int(value):
            problem = f"is {shown(value)}; give a whole number"
            raise InvalidField.of_field(name, problem, **self.schema)
        return int(value)

    @property
    def range(self) -> str:
        form = "d" if self.whole else ",g"
        low, high = f"{self.low:{form}}", f"{self.high:{form}}"
        return f"more than {low}, at most {high}" if self.above else f"{low} to {high}"

    @property
    def schema(self) -> dict[str, Any]:
        numeric = "integer" if self.whole else "number"
        least = "exclusiveMinimum" if self.above else "minimum"
        return {"type": numeric, least: self.low, "maximum": self.high}

    @property
    def tensor(self) -> tuple[str, list[int]]:
        if not self.whole:
            return "FP32", [1]
        return ("INT32" if self.high < 2**31 else "INT64"), [1]


@dataclass(frozen=True)
class Duration(Row):
    """Seconds for callers, whole frames in a request: float32 and float64 seconds can disagree."""

    least: float = 0.0  # seconds; 0 stands for anything more
    high: float = math.inf

    def check(self, name: str, value: Any) -> int:
        if not is_number(value):
            problem = f"is {kind(value)}; send a number of seconds"
            raise InvalidField.of_field(name, problem, **self.schema)
        if not 0 < value <= self.high or value < self.least:
            least = f"at least {self.least:g}" if self.least else "more than 0"
            problem = f"is {shown(value)}; give seconds, {least}, at most {self.high:g}"
            raise InvalidField.of_field(name, problem, **self.schema)
        frames: int = round(value * FRAME_RATE)
        return max(1, frames)

    @property
    def range(self) -> str:
        least = f"at least {self.least:g}" if self.least else "more than 0"
        return f"{least}, at most `MAX_DURATION`"

    @property
    def schema(self) -> dict[str, Any]:
        least = {"minimum": self.least} if self.least else {"exclusiveMinimum": 0}
        return {"type": "number", **least, "maximum": self.high}

    @property
    def tensor(self) -> tuple[str, list[int]]:
        return "FP32", [1]


@dataclass(frozen=True)
class Flag(Row):
    """True or false."""

    def check(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise InvalidField.of_field(name, f"is {kind(value)}; send true or false")
        return value

    @property
    def range(self) -> str:
        return "true, false"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}

    @property
    def tensor(self) -> tuple[str, list[int]]:
        return "BOOL", [1]


@dataclass(frozen=True)
class Array(Row):
    """A matrix of `triton` numbers, from Triton's clients alone."""

    triton: str

    def check(self, name: str, value: Any) -> Any:
        if value.ndim != 2:
            problem = f"has the shape {list(value.shape)}; give two dimensions"
            raise InvalidField.of_field(name, problem)
        return value

    @property
    def tensor(self) -> tuple[str, list[int]]:
        return self.triton, [-1, -1]


@dataclass(frozen=True)
class PitchClasses(Array):
    """A matrix of pitch classes; lists of lists in JSON."""

    triton: str = "INT32"

    def check(self, name: str, value: Any) -> Any:
        if not isinstance(value, list | np.ndarray):
            raise InvalidField.of_field(name, f"is {kind(value)}; send lists of whole numbers")
        matrix = np.array(value, object)
        matrix = super().check(name, matrix if matrix.shape != (0,) else matrix[None])
        for number in matrix.ravel().tolist():
            if not is_number(number) or number not in range(UNKNOWN, PITCH_CLASSES):
                wrong = shown(number) if is_number(number) else kind(number)
                raise InvalidField.of_field(name, f"holds {wrong}; give {self.range}")
        return matrix.astype(np.int32)

    @property
    def range(self) -> str:
        return f"0 to {PITCH_CLASSES - 1}"

    @property
    def schema(self) -> dict[str, Any]:
        number = {"type": "integer", "minimum": 0, "maximum": PITCH_CLASSES - 1}
        return {"type": "array", "items": {"type": "array", "items": number}}


@dataclass(frozen=True)
class Field:
    """A row with its place in a dataclass; `name` is what callers write."""

    name: str
    attribute: str
    row: Row
    default: Any  # MISSING: the field is required

    @property
    def input(self) -> str:
        """The name of Triton's input."""
        return input_name(self.name)

    @property
    def shown_default(self) -> str:
        """The default in words."""
        if self.default is MISSING:
            return "required" if self.row.absent == Row.absent else self.row.absent
        if self.default in (None, ""):
            return self.row.absent
        if isinstance(self.default, bool):
            return str(self.default).lower()
        return f"`{self.default}`" if isinstance(self.default, str) else f"{self.default:,g}"


def row(
    row: Row, default: Any = MISSING, *, factory: Any = MISSING, name: str | None = None
) -> Any:
    """A dataclass field with a row. `name` is what callers write, where it is another name."""
    metadata = {"row": row, "name": name}
    if isinstance(row, Array):
        return dataclasses.field(default=default, compare=False, repr=False, metadata=metadata)
    if factory is not MISSING:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def table(request: type) -> dict[str, Field]:
    """The fields of a dataclass by the names that callers write."""
    fields = [
        Field(
            field.metadata["name"] or field.name,
            field.name,
            field.metadata["row"],
            None if field.default_factory is not MISSING else field.default,
        )
        for field in dataclasses.fields(request)
    ]
    return {field.name: field for field in fields}


def check(fields: dict[str, Field], values: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a dataclass from values by the names that callers write.

    Raises InvalidField for a missing or wrong one.
    """
    for field in fields.values():
        if field.default is MISSING and field.name not in values:
            wanted = field.row.doc[0].lower() + field.row.doc[1:]
            raise InvalidField.of_field(field.name, f"is missing; give {wanted}")
    return {
        field.attribute: field.row.check(name, values[name])
        for name, field in fields.items()
        if name in values
    }


def kind(value: object) -> str:
    """The kind of a JSON value, in words."""
    return KINDS.get(type(value), "a number")


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shown(value: float) -> str:
    """A number as a message shows it, however many digits it has."""
    text = str(value).removesuffix(".0")
    return text if len(text) <= 30 else f"{text[:27]}..."
