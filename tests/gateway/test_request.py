"""Checks of a request's fields: a wrong field is refused by name."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gateway.request import (
    Body,
    Options,
    Uploads,
    form_fields,
    from_form,
    from_json,
    json_fields,
    with_audio,
    with_melody,
)
from protocol.constants import Samples
from protocol.errors import InvalidField, InvalidJson
from protocol.fields import Number
from protocol.request import GenerationRequest

NUMBERS = [name for name, field in json_fields(300).items() if isinstance(field.row, Number)]


def read(max_duration: float = 300.0, **fields: Any) -> Body:
    return from_json(json.dumps(fields).encode(), max_duration)


def form(**texts: str) -> Body:
    return from_form({"prompt": "jazz", "audio": bytearray(b"file"), **texts}, 300)


def test_only_the_prompt_is_required() -> None:
    body = read(prompt="jazz")
    assert body.request == GenerationRequest("jazz", 1500, seed=body.request.seed)
    assert (body.options.model, body.options.format, body.uploads) == (None, None, Uploads())
    assert len({read(prompt="jazz").request.seed for _ in range(10)}) == 10


def test_every_field_is_read() -> None:
    settings: dict[str, Any] = {
        "seed": 0, "temperature": 0.5, "top_k": 0, "top_p": 0.9, "cfg_coef": 4, "extend_stride": 5,
    }  # fmt: skip
    body = read(prompt="jazz", model="tiny", format="flac", **settings)
    assert body.request == GenerationRequest("jazz", 1500, **settings)
    assert (body.options.model, body.options.format) == ("tiny", "flac")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 2**63 - 1), ("seed", 5.0), ("temperature", 0), ("temperature", 1e-45),
        ("temperature", 100), ("top_k", 1_000_000), ("top_p", 1), ("cfg_coef", 0),
        ("extend_stride", 1), ("extend_stride", 29),
    ],
)  # fmt: skip
def test_both_ends_of_a_range_are_allowed(field: str, value: float) -> None:
    assert getattr(read(prompt="jazz", **{field: value}).request, field) == value


def test_the_default_duration_respects_the_limit() -> None:
    assert read(10.0, prompt="jazz").request.duration == 10


@pytest.mark.parametrize(
    ("duration", "frames"), [(1, 50), (0.7, 35), (36.08, 1804), (300, 15_000), (1e-9, 1)]
)
def test_a_duration_is_whole_frames_and_at_least_one(duration: float, frames: int) -> None:
    request = read(prompt="jazz", duration=duration).request
    assert (request.frames, request.samples) == (frames, frames * 640)


@pytest.mark.parametrize("prompt", ["a\0b", "🎹", "ピアノ", "\u202ebass", "x" * 2000, " \n jazz "])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_any_text_is_a_prompt(prompt: str, ascii_only: bool) -> None:
    body = json.dumps({"prompt": prompt}, ensure_ascii=ascii_only).encode()
    assert from_json(body, 300).request.prompt == prompt


def test_a_byte_order_mark_is_ignored() -> None:
    assert from_json(b'\xef\xbb\xbf{"prompt": "jazz"}', 300).request.prompt == "jazz"


@pytest.mark.parametrize(
    "body",
    [b"", b"jazz", b'{"prompt": "jazz"', b'{"prompt": "\xff"}', b"[" * 100_000, b"\xff\xfe{\0}\0"],
)
def test_a_body_that_is_not_json_is_invalid_json(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        from_json(body, 300)


def test_a_number_of_ten_thousand_digits_is_invalid_json() -> None:
    with pytest.raises(InvalidJson):
        from_json(b'{"prompt": "jazz", "duration": ' + b"9" * 10_000 + b"}", 300)


@pytest.mark.parametrize("body", [b"null", b"5", b'"jazz"', b'[{"prompt": "jazz"}]', b"NaN"])
def test_the_body_must_be_an_object(body: bytes) -> None:
    with pytest.raises(InvalidField) as raised:
        from_json(body, 300)
    assert raised.value.field is None


NO_TEXT: list[Any] = [5, True, [], {}, "\ud800", "jazz \udc00"]
NO_NUMBER: list[Any] = ["30", True, False, [30], {}]
NO_DURATION = [0, -0.0, -1, 300.01, 1e400, -1e400, float("nan"), 10**4000]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("prompt", value) for value in [None, *NO_TEXT, "", " \n\t", "x" * 2001]],
        *[("model", value) for value in NO_TEXT],
        *[("duration", value) for value in NO_NUMBER + NO_DURATION],
        *[(name, value) for name in NUMBERS for value in [*NO_NUMBER, -2, 1e400, float("nan")]],
        *[("seed", 2**63), ("seed", 0.5), ("top_k", 1.5), ("top_k", 1_000_001), ("top_p", 1.01)],
        *[("temperature", 101), ("cfg_coef", 101), ("cfg_coef", 10**4000)],
        *[("extend_stride", 0), ("extend_stride", 29.5)],
        *[("format", value) for value in [*NO_TEXT, "aiff"]],
        *[(name, 1) for name in ("Prompt", "speed", "", "\ud800", "x" * 100)],
        *[(name, value) for name, value in [("output", "new"), ("audio", ""), ("start", 1)]],
    ],
)
def test_a_wrong_field_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidField) as raised:
        read(**{"prompt": "jazz", field: value})
    assert raised.value.field == field
    assert 10 < len(raised.value.message) < 300


@pytest.mark.parametrize(("text", "duration"), [("5", 5.0), ("2.5", 2.5), ("1e1", 10), (" 3 ", 3)])
def test_a_form_has_the_numbers_of_json(text: str, duration: float) -> None:
    assert form(duration=text).request.duration == duration


@pytest.mark.parametrize(
    "text", ["1_0", "\u0661", "\uff11", "0x10", "long", " ", "true", "null", "[5]", "[" * 10_000]
)
def test_a_form_has_no_other_numbers(text: str) -> None:
    with pytest.raises(InvalidField) as raised:
        form(duration=text)
    assert raised.value.message.startswith("duration is ")
    assert raised.value.message.endswith("; send a number of seconds.")


def test_a_text_in_a_form_may_look_like_a_number() -> None:
    assert form(prompt="1999").request.prompt == "1999"


def test_a_form_has_a_file_and_an_output() -> None:
    assert form().uploads == Uploads(bytearray(b"file"))
    assert form(output="new").uploads == Uploads(bytearray(b"file"), output="new")


def test_a_form_without_a_file_is_refused() -> None:
    with pytest.raises(InvalidField) as raised:
        from_form({"prompt": "jazz"}, 300)
    assert raised.value.field == "audio"


def melody_form(**parts: str | bytearray) -> Body:
    return from_form({"prompt": "jazz", "melody": bytearray(b"tune"), **parts}, 300)


def test_a_form_may_have_a_melody_with_or_without_audio() -> None:
    alone, both = melody_form(), melody_form(audio=bytearray(b"file"))
    assert alone.uploads == Uploads(melody=bytearray(b"tune"))
    assert both.uploads == Uploads(bytearray(b"file"), bytearray(b"tune"))


@pytest.mark.parametrize(("text", "separate"), [("true", True), ("false", False), ("", True)])
def test_a_form_says_whether_the_melody_is_part_of_a_mix(text: str, separate: bool) -> None:
    assert melody_form(separate=text).request.separate is separate


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"separate": "no"}, "separate is text; send true or false."),
        ({"separate": "0"}, "separate is a number; send true or false."),
        ({"chroma": "[[1, 2]]"}, "melody comes with chroma; send one of them."),
    ],
)
def test_a_melody_that_contradicts_its_form_is_refused(parts: Any, message: str) -> None:
    with pytest.raises(InvalidField) as raised:
        melody_form(**parts)
    assert raised.value.message == message


@pytest.mark.parametrize(
    ("chroma", "message"),
    [
        ("C", "chroma is text; send lists of whole numbers."),
        ([1, 2], "chroma has the shape [2]; give two dimensions."),
        ([[1], [1, 2]], "chroma has the shape [2]; give two dimensions."),
        ([[12]], "chroma holds 12; give 0 to 11."),
        ([[-1]], "chroma holds -1; give 0 to 11, or melody beside it."),
        ([[0.5]], "chroma holds 0.5; give 0 to 11."),
        ([["C"]], "chroma holds text; give 0 to 11."),
        ([[10**400]], "chroma holds 100000000000000000000000000...; give 0 to 11."),
    ],
)
def test_chroma_is_a_matrix_of_pitch_classes(chroma: Any, message: str) -> None:
    with pytest.raises(InvalidField) as raised:
        read(prompt="jazz", chroma=chroma)
    assert raised.value.message == message


def test_chroma_is_read_from_json_and_from_a_form() -> None:
    for body in (read(prompt="jazz", chroma=[[0, 11]]), form(chroma="[[0, 11]]")):
        assert body.request.chroma is not None and body.request.chroma.tolist() == [[0, 11]]


def test_too_short_a_melody_is_refused() -> None:
    request = GenerationRequest("jazz", 50, seed=7)
    assert with_melody(request, audio(640)).melody is not None
    with pytest.raises(InvalidField, match="MELODY is shorter"):
        with_melody(request, audio(639))


def test_a_missing_prompt_is_named() -> None:
    with pytest.raises(InvalidField) as raised:
        read(duration=5)
    assert raised.value.message.startswith("prompt is missing")


def test_null_means_that_a_field_is_not_given() -> None:
    optional: dict[str, Any] = {name: None for name in json_fields(300) if name != "prompt"}
    assert replace(read(prompt="jazz", **optional).request, seed=0) == replace(
        read(prompt="jazz").request, seed=0
    )
    for fields in ({"prompt": None}, {"prompt": "jazz", "loud": None}):
        with pytest.raises(InvalidField):
            read(**fields)


def test_an_empty_part_means_that_a_field_is_not_given() -> None:
    parts: dict[str, str | bytearray] = dict.fromkeys(form_fields(300), "")
    body = from_form({**parts, "prompt": "jazz", "audio": bytearray(b"RIFF")}, 300)
    assert body.request.duration == 30
    assert (body.options, body.uploads.output) == (Options(), "whole")


def test_the_seed_minus_one_is_drawn() -> None:
    seeds = {read(prompt="jazz", seed=-1).request.seed for _ in range(3)}
    assert len(seeds) == 3 and min(seeds) >= 0


@pytest.mark.parametrize(
    "body",
    [b'{"prompt": "a", "seed": 1, "seed": 1}', b'{"prompt": "a", "seed": {"seed": 1, "seed": 2}}'],
)
def test_a_name_that_comes_twice_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidField) as raised:
        from_json(body, 300)
    assert raised.value.message == "seed is there twice; send it once."


@pytest.mark.parametrize("format", ["FLAC", "Flac", "flac"])
def test_a_format_is_read_in_upper_and_lower_case(format: str) -> None:
    assert read(prompt="jazz", format=format).options.format == "flac"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"duration": 301}, "duration is 301; give seconds, more than 0, at most 300."),
        ({"prompt": "x" * 2001}, "prompt has 2001 characters; shorten it to 2000."),
        ({"prompt": " "}, "prompt is empty; describe the music that you want."),
        ({"duration": "9"}, "duration is text; send a number of seconds."),
        ({"seed": -2}, "seed is -2; give -1 to 9223372036854775807."),
        ({"top_k": 2.5}, "top_k is 2.5; give a whole number."),
        ({"temperature": 100.5}, "temperature is 100.5; give 0 to 100."),
        ({"cfg_coef": "9"}, "cfg_coef is text; send a number."),
        ({"format": "aiff"}, "format is 'aiff'; give wav, flac, ogg, mp3."),
        ({"lenght": 5}, "There is no field 'lenght'; send model, prompt, dur"),
    ],
)
def test_a_message_names_the_value_and_the_remedy(fields: Any, message: str) -> None:
    with pytest.raises(InvalidField) as raised:
        read(**{"prompt": "jazz", **fields})
    assert raised.value.message.startswith(message)


def audio(samples: int) -> Samples:
    return np.ones((1, samples), np.float32)


@pytest.mark.parametrize(("output", "start"), [("whole", 0), ("new", 32_000)])
def test_a_request_continues_whole_frames_of_audio(output: str, start: int) -> None:
    request = with_audio(GenerationRequest("jazz", 51, seed=7), audio(32_639), output)
    assert request.prompt_audio is not None and request.prompt_audio.shape == (1, 32_639)
    assert (request.frames, request.prompt_frames, request.start) == (51, 50, start)


@pytest.mark.parametrize(
    ("samples", "field", "message"),
    [
        (639, "audio", "audio is shorter than 0.02 s; send more of it."),
        (32_000, "duration", "audio lasts 1 s, and duration is 1; it counts the whole song"),
    ],
)
def test_too_little_or_too_much_audio_is_refused(samples: int, field: str, message: str) -> None:
    with pytest.raises(InvalidField) as raised:
        with_audio(GenerationRequest("jazz", 50, seed=7), audio(samples), "whole")
    assert raised.value.field == field and raised.value.message.startswith(message)
