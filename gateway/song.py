"""What a caller asks for."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway.errors import InvalidField, InvalidJson
from gateway.upload import Audio

FRAMES_PER_SECOND = 50
SAMPLES_PER_FRAME = 640
DEFAULT_DURATION = 30.0
MAX_PROMPT = 2000
KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


class Range(NamedTuple):
    """Of a number: both ends are allowed. Whole where the ends are."""

    low: float
    high: float

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int)


# The model's own limits: docs/triton.md tells what the settings mean.
NUMBERS = {
    "seed": Range(0, 2**63 - 1),
    "temperature": Range(0.0, 100.0),
    "top_k": Range(0, 1_000_000),
    "top_p": Range(0.0, 1.0),
    "cfg_coef": Range(0.0, 100.0),
    "extend_stride": Range(1.0, 29.0),
}
COLDEST = 0.01  # temperature over 0
FIELDS = ("model", "prompt", "duration", *NUMBERS, "format")
OUTPUTS = ("whole", "new")


@dataclass(frozen=True)
class Song:
    """`model` as the caller spelled it, None for the default; `frames` of 20 ms, at least 1.

    The settings are audiocraft's, with its defaults; `extend_stride` is in seconds. `format` is as
    the caller spelled it, None for what the Accept header says. `output` is for a song that goes on
    from a file: "whole" with it, "new" without.
    """

    model: str | None
    prompt: str
    frames: int
    seed: int
    temperature: float = 1.0
    top_k: int = 250
    top_p: float = 0.0
    cfg_coef: float = 3.0
    extend_stride: float = 18.0
    format: str | None = None
    output: str | None = None

    @property
    def seconds(self) -> float:
        return self.frames / FRAMES_PER_SECOND

    @property
    def end(self) -> int:
        """Samples per channel, all of them."""
        return self.frames * SAMPLES_PER_FRAME

    @property
    def settings(self) -> dict[str, float]:
        """What can be turned, but for the seed."""
        return {name: getattr(self, name) for name in NUMBERS if name != "seed"}

    def start(self, audio: Audio) -> int:
        """Samples per channel, in front of what is wanted of a song that begins with `audio`.

        Raises `InvalidField` when the song has to be longer.
        """
        frames = audio.samples.shape[1] * FRAMES_PER_SECOND // audio.sample_rate
        if frames == 0:
            raise InvalidField("audio is shorter than 0.02 s; send more of it.", "audio")
        if frames >= self.frames:
            raise InvalidField(
                f"audio is {audio.seconds:.3g} s long, and duration is {self.seconds:g}; it counts "
                "the whole song, so give more.",
                "duration",
            )
        return frames * SAMPLES_PER_FRAME if self.output == "new" else 0

    @classmethod
    def from_json(cls, body: bytes, max_duration: float) -> Song:
        """Reads the body of a request. Raises `InvalidJson` or `InvalidField`."""
        return cls._of(_object(body), FIELDS, max_duration)

    @classmethod
    def from_form(cls, texts: Mapping[str, str], max_duration: float) -> Song:
        """Reads what comes with an audio file. Raises `InvalidField`."""
        numeric = {"duration", *NUMBERS}
        fields = {name: _read(text) if name in numeric else text for name, text in texts.items()}
        return cls._of({"output": OUTPUTS[0], **fields}, (*FIELDS, "output"), max_duration)

    @classmethod
    def _of(cls, fields: Mapping[str, Any], known: Sequence[str], max_duration: float) -> Song:
        for name in fields:
            if name not in known:
                raise InvalidField(
                    f"There is no field {name[:50]!r}; send {', '.join(known)}.", name[:100]
                )
        if "prompt" not in fields:
            raise InvalidField("prompt is missing; describe the music that you want.", "prompt")
        numbers: dict[str, Any] = {
            name: _number(fields, name) for name in NUMBERS if name in fields
        }
        if 0 < numbers.get("temperature", 1) < COLDEST:
            raise _out_of_range("temperature", numbers["temperature"], f"0 or {COLDEST} to 100")
        return cls(
            model=_optional_text(fields, "model"),
            prompt=_prompt(fields["prompt"]),
            frames=_frames(fields, max_duration),
            # 32 bits are seeds enough, and every client's JSON holds them exactly.
            **{"seed": secrets.randbits(32), **numbers},
            format=_optional_text(fields, "format"),
            output=_output(fields),
        )


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InvalidJson("The body is not UTF-8; send JSON in UTF-8.") from None
    except json.JSONDecodeError as error:
        raise InvalidJson(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except (ValueError, RecursionError):  # a number of over 4300 digits; too many brackets
        raise InvalidJson("The body's JSON is out of all proportion; send a plain one.") from None
    if not isinstance(value, dict):
        raise InvalidField(f"The body is {_kind(value)}; send a JSON object with a prompt.")
    return value


def _read(text: str) -> object:
    """A number, where JSON has it for one: Python would take 1_0 too."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if _is_number(value) else text


def _prompt(value: object) -> str:
    prompt = _text(value, "prompt")
    if not prompt.strip():
        raise InvalidField("prompt is empty; describe the music that you want.", "prompt")
    if len(prompt) > MAX_PROMPT:
        raise InvalidField(
            f"prompt has {len(prompt)} characters; shorten it to {MAX_PROMPT}.", "prompt"
        )
    return prompt


def _output(fields: Mapping[str, Any]) -> str | None:
    output = _optional_text(fields, "output")
    if output not in (None, *OUTPUTS):
        raise InvalidField(f"output is {output[:50]!r}; give {' or '.join(OUTPUTS)}.", "output")
    return output


def _frames(fields: Mapping[str, Any], max_duration: float) -> int:
    duration = fields.get("duration", min(DEFAULT_DURATION, max_duration))
    if not _is_number(duration):
        raise InvalidField(f"duration is {_kind(duration)}; send a number of seconds.", "duration")
    if not 0 < duration <= max_duration:
        raise _out_of_range("duration", duration, f"seconds, more than 0, at most {max_duration:g}")
    frames: int = round(duration * FRAMES_PER_SECOND)
    return max(1, frames)


def _number(fields: Mapping[str, Any], name: str) -> float:
    value, limits = fields[name], NUMBERS[name]
    if not _is_number(value):
        raise InvalidField(f"{name} is {_kind(value)}; send a number.", name)
    if not limits.low <= value <= limits.high:
        raise _out_of_range(
            name, value, f"{limits.low:g} to {limits.high:{'d' if limits.whole else 'g'}}"
        )
    if not limits.whole:
        return float(value)
    if value != int(value):
        raise _out_of_range(name, value, "a whole number")
    return int(value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _out_of_range(name: str, value: float, remedy: str) -> InvalidField:
    text = str(value)
    shown = text if len(text) <= 30 else text[:27] + "..."
    return InvalidField(f"{name} is {shown}; give {remedy}.", name)


def _optional_text(fields: Mapping[str, Any], name: str) -> str | None:
    return _text(fields[name], name) if name in fields else None


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidField(f"{field} is {_kind(value)}; send text.", field)
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can write half of a surrogate pair, UTF-8 cannot
        raise InvalidField(f"{field} holds half a character; send whole Unicode.", field) from None
    return value


def _kind(value: object) -> str:
    return KINDS.get(type(value), "a number")
