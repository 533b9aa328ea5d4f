"""The body of `POST /generate`: the fields of a GenerationRequest, and those that HTTP adds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, replace
from typing import Any

from gateway.audio.formats import FORMATS
from gateway.audio.mastering import Mastering
from gateway.audio.upload import MAX_BYTES
from protocol import section
from protocol.constants import (
    FRAME_RATE,
    MAX_CHANNELS,
    MAX_MELODY_SECONDS,
    MAX_PROMPT_SECONDS,
    MAX_SAMPLE_RATE,
    MIN_SAMPLE_RATE,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    Samples,
)
from protocol.errors import InvalidField, InvalidJson
from protocol.fields import Duration, Field, Row, Text, check, is_number, kind, row, table
from protocol.parser import parse_request, request_fields
from protocol.prompt import MAX_PROMPT, Prompt, named_texts
from protocol.request import FIELDS, GenerationRequest, whole_frames

DEFAULT_DURATION = 30.0
FILES = {"audio", "melody"}  # the fields of a form that are files


@dataclass(frozen=True)
class File(Row):
    """An audio file of at most `longest` seconds; `gateway/audio/upload.py` checks its content."""

    longest: float

    def check(self, name: str, value: Any) -> Any:
        return value

    @property
    def range(self) -> str:
        size = f"{self.longest:g} s and {MAX_BYTES // 1024**2} MB"
        rates = f"{MIN_SAMPLE_RATE // 1000} to {MAX_SAMPLE_RATE // 1000} kHz"
        return f"at most {size}, 1 to {MAX_CHANNELS} channels, {rates}"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "binary"}


@dataclass(frozen=True)
class Options:
    """The fields of every body."""

    model: str | None = row(
        Text(
            "A name from `GET /models`, also as on the hub (`facebook/musicgen-small`), or in the "
            "other word order (`musicgen-small-stereo`)",
            absent="the default model",
        ),
        None,
    )
    format: str | None = row(
        Text(
            "Format of the file, where `ogg` is Opus",
            choices=tuple(FORMATS),
            absent="the best of `Accept`, else `wav`",
        ),
        None,
    )


OPTIONS = table(Options)


@dataclass(frozen=True)
class Uploads:
    """The fields of a form alone."""

    audio: bytearray | None = row(
        File(
            "The beginning of the song as a file: WAV, FLAC, Ogg, MP3, AAC, M4A or AIFF; more than "
            "two channels become stereo",
            MAX_PROMPT_SECONDS,
        ),
        None,
    )
    melody: bytearray | None = row(
        File(
            "The melody that the music follows, as such a file, for a model that takes one",
            MAX_MELODY_SECONDS,
        ),
        None,
    )
    output: str = row(
        Text("The whole song, or only what is new after `audio`", choices=("whole", "new")), "whole"
    )


@dataclass(frozen=True)
class Body:
    request: GenerationRequest
    options: Options
    mastering: Mastering
    uploads: Uploads = field(default_factory=Uploads)


def json_fields(max_duration: float) -> dict[str, Field]:
    """The table of the fields of a JSON body."""
    fields = request_fields(max_duration)
    default = min(DEFAULT_DURATION, max_duration)
    fields["duration"] = replace(fields["duration"], default=default)
    shared = {name: field for name, field in fields.items() if field.row.http}
    model, format = OPTIONS["model"], OPTIONS["format"]
    return {"model": model, **shared, **table(Mastering), "format": format}


def form_fields(max_duration: float) -> dict[str, Field]:
    """The table of the fields of a form."""
    fields = {**json_fields(max_duration), **table(Uploads), "separate": FIELDS["separate"]}
    prompt = fields["prompt"]
    text = Text(prompt.row.doc, max_length=MAX_PROMPT, absent=prompt.row.absent)
    return {**fields, "prompt": replace(prompt, row=text)}


def from_json(data: bytes, max_duration: float) -> Body:
    """Read a JSON body.

    Raises:
        InvalidJson, InvalidField
    """
    fields = json_fields(max_duration)
    return Body(*_checked(fields, _given(fields, json_object(data), None), max_duration))


def from_form(contents: Mapping[str, str | bytearray], max_duration: float) -> Body:
    """Read the parts of a form by their names; all but the files are text.

    Raises:
        InvalidField
    """
    fields = form_fields(max_duration)
    values = {
        name: from_text(content)
        if name in fields and not isinstance(fields[name].row, (Text, File))
        else content
        for name, content in _given(fields, contents, "").items()
    }
    others = {name: value for name, value in values.items() if name not in FILES}
    request, options, mastering = _checked(fields, others, max_duration)
    uploads = Uploads(**check(table(Uploads), values))
    if not values.keys() & FILES:
        raise InvalidField.of_field("audio", "is missing; send it or melody, or send JSON")
    if uploads.audio is not None and mastering.loop:
        raise InvalidField.of_pair("audio", "loop")
    if uploads.melody is not None and request.chroma is not None:
        raise InvalidField.of_pair("melody", "chroma")
    return Body(request, options, mastering, uploads)


def with_melody(request: GenerationRequest, melody: Samples) -> GenerationRequest:
    """The request that follows `melody`, of SAMPLE_RATE. Raises InvalidField if it is too short."""
    _require_a_frame("melody", melody)
    return replace(request, melody=melody)


def _require_a_frame(name: str, audio: Samples) -> None:
    if whole_frames(audio, SAMPLE_RATE) == 0:
        problem = f"is shorter than {1 / FRAME_RATE:g} s; send more of it"
        raise InvalidField.of_field(name, problem)


def with_audio(request: GenerationRequest, audio: Samples, output: str) -> GenerationRequest:
    """The request that continues `audio`, of SAMPLE_RATE.

    Raises:
        InvalidField: the audio is too short, or the song is not longer than it.
    """
    _require_a_frame("audio", audio)
    frames = whole_frames(audio, SAMPLE_RATE)
    if frames >= request.frames:
        seconds = round(audio.shape[1] / SAMPLE_RATE, 2)
        raise InvalidField(
            f"audio lasts {seconds:g} s, and duration is {request.duration:g}; it counts the whole "
            "song, so give more.",
            "duration",
            limits={"exclusiveMinimum": seconds},
        )
    return replace(
        request,
        prompt_audio=audio,
        start=frames * SAMPLES_PER_FRAME if output == "new" else 0,
    )


def check_name(fields: Iterable[str], name: str) -> None:
    if name not in fields:
        problem = f"There is no field {name[:50]!r}; send {', '.join(fields)}."
        raise InvalidField(problem, name[:100])


def _given(
    fields: dict[str, Field], values: Mapping[str, Any], nothing: str | None
) -> dict[str, Any]:
    """The values without those of optional fields that are `nothing`."""
    optional = {name for name, field in fields.items() if field.default is not MISSING}
    return {
        name: value for name, value in values.items() if value != nothing or name not in optional
    }


def _checked(
    fields: dict[str, Field], values: dict[str, Any], max_duration: float
) -> tuple[GenerationRequest, Options, Mastering]:
    for name in values:
        check_name(fields, name)
    mastering = Mastering(**check(table(Mastering), values))
    duration = fields["duration"]
    assert isinstance(duration.row, Duration)
    if mastering.duration is not None:
        for name in ("duration", "sections"):
            if name in values:
                raise InvalidField.of_pair(name, "bars")
    if "sections" not in values:
        seconds = min(mastering.duration or duration.default, duration.row.high)
        values = {"duration": seconds, **values}
    request = parse_request(values, max_duration)
    for within, part in request.named_timeline():
        _require_words(f"{within}prompt", part.prompt)
    mastering.check(request, duration.row.high)
    return request, Options(**check(OPTIONS, values)), mastering


def _require_words(name: str, prompt: Prompt) -> None:
    for part, text in named_texts(name, prompt):
        if not text.strip():
            problem = "is empty; describe the music that you want"
            raise InvalidField.of_field(part, problem, minLength=1)


def check_change(values: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a section that a change gives. Raises InvalidField."""
    attributes = section.check_change(values)
    _require_words("prompt", attributes.get("prompt", "unchanged"))
    return attributes


def json_object(data: bytes) -> dict[str, Any]:
    """The object that is JSON in UTF-8. Raises InvalidJson, InvalidField."""
    try:
        value = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except UnicodeDecodeError:
        raise InvalidJson("The body is not UTF-8; send JSON in UTF-8.") from None
    except json.JSONDecodeError as error:
        raise InvalidJson(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except (ValueError, RecursionError):  # a number of over 4300 digits; too many brackets
        problem = "The body's JSON has too long a number or too many brackets; send a plain one."
        raise InvalidJson(problem) from None
    if not isinstance(value, dict):
        raise InvalidField(f"The body is {kind(value)}; send a JSON object.")
    return value


def from_query(pairs: Iterable[tuple[str, str]], name: str) -> str | None:
    """The value of `name`, the only one that an address may have. Raises InvalidField."""
    values = _unique(list(pairs))
    for given in values:
        check_name([name], given)
    return values.get(name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise InvalidField(f"{name[:50]} is there twice; send it once.", name[:50])
    return values


def from_text(text: object) -> object:
    """The number, list, true or false that JSON writes as `text`, else the text: Python would read
    1_0, too."""
    try:
        value = json.loads(str(text))
    except (ValueError, RecursionError):
        return text
    return value if is_number(value) or isinstance(value, bool | list) else text
