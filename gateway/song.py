"""What a caller asks for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gateway.errors import InvalidField, InvalidJson

FRAMES_PER_SECOND = 50
SAMPLES_PER_FRAME = 640
DEFAULT_DURATION = 30.0
MAX_PROMPT = 2000
FIELDS = ("model", "prompt", "duration")
KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


@dataclass(frozen=True)
class Song:
    """`model` as the caller spelled it, None for the default; `frames` of 20 ms, at least 1."""

    model: str | None
    prompt: str
    frames: int

    @property
    def seconds(self) -> float:
        return self.frames / FRAMES_PER_SECOND

    @property
    def samples(self) -> int:
        """Per channel."""
        return self.frames * SAMPLES_PER_FRAME

    @classmethod
    def from_json(cls, body: bytes, max_duration: float) -> Song:
        """Reads the body of a request. Raises `InvalidJson` or `InvalidField`."""
        fields = _object(body)
        for name in fields:
            if name not in FIELDS:
                raise InvalidField(
                    f"There is no field {name[:100]!r}; send {', '.join(FIELDS)}.", name[:100]
                )
        model = _text(fields["model"], "model") if "model" in fields else None
        if "prompt" not in fields:
            raise InvalidField("prompt is missing; describe the music that you want.", "prompt")
        duration = _duration(fields.get("duration", min(DEFAULT_DURATION, max_duration)))
        if not 0 < duration <= max_duration:
            raise InvalidField(
                f"duration is {_shown(duration)}; give seconds, more than 0, "
                f"at most {max_duration:g}.",
                "duration",
            )
        prompt = _prompt(fields["prompt"])
        return cls(model, prompt, max(1, round(duration * FRAMES_PER_SECOND)))


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


def _prompt(value: object) -> str:
    prompt = _text(value, "prompt")
    if not prompt.strip():
        raise InvalidField("prompt is empty; describe the music that you want.", "prompt")
    if len(prompt) > MAX_PROMPT:
        raise InvalidField(
            f"prompt has {len(prompt)} characters; shorten it to {MAX_PROMPT}.", "prompt"
        )
    return prompt


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidField(f"{field} is {_kind(value)}; send text.", field)
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can write half of a surrogate pair, UTF-8 cannot
        raise InvalidField(f"{field} holds half a character; send whole Unicode.", field) from None
    return value


def _duration(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidField(f"duration is {_kind(value)}; send a number of seconds.", "duration")
    return value


def _kind(value: object) -> str:
    return KINDS.get(type(value), "a number")


def _shown(number: int | float) -> str:
    text = str(number)
    return text if len(text) <= 30 else text[:27] + "..."
