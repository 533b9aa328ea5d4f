"""What may be asked for; every other body is refused with the field's name."""

import json
from typing import Any

import pytest

from gateway.errors import InvalidField, InvalidJson
from gateway.song import NUMBERS, Song


def read(max_duration: float = 300.0, **fields: Any) -> Song:
    return Song.from_json(json.dumps(fields).encode(), max_duration)


def test_only_the_prompt_is_required() -> None:
    song = read(prompt="jazz")
    assert song == Song(None, "jazz", 1500, song.seed)
    assert len({read(prompt="jazz").seed for _ in range(10)}) == 10


def test_what_is_given_is_taken() -> None:
    settings = {
        "seed": 0, "temperature": 0.5, "top_k": 0, "top_p": 0.9, "cfg_coef": 4, "extend_stride": 5,
    }  # fmt: skip
    song = read(prompt="jazz", format="flac", **settings)
    assert song == Song(None, "jazz", 1500, 0, 0.5, 0, 0.9, 4.0, 5.0, "flac")
    assert {"seed": song.seed, **song.settings} == settings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 2**63 - 1), ("seed", 5.0), ("temperature", 0), ("temperature", 0.01),
        ("temperature", 100), ("top_k", 1_000_000), ("top_p", 1), ("cfg_coef", 0),
        ("extend_stride", 1), ("extend_stride", 29),
    ],
)  # fmt: skip
def test_a_number_may_be_at_either_end_of_its_range(field: str, value: float) -> None:
    assert getattr(read(prompt="jazz", **{field: value}), field) == value


def test_the_default_duration_keeps_the_limit() -> None:
    assert read(10.0, prompt="jazz").seconds == 10


@pytest.mark.parametrize(
    ("duration", "frames"), [(1, 50), (0.7, 35), (36.08, 1804), (300, 15_000), (1e-9, 1)]
)
def test_duration_is_whole_frames_and_at_least_one(duration: float, frames: int) -> None:
    song = read(prompt="jazz", duration=duration)
    assert (song.frames, song.end) == (frames, frames * 640)


@pytest.mark.parametrize("prompt", ["a\0b", "🎹", "ピアノ", "\u202ebass", "x" * 2000, " \n jazz "])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_any_text_survives(prompt: str, ascii_only: bool) -> None:
    body = json.dumps({"prompt": prompt}, ensure_ascii=ascii_only).encode()
    assert Song.from_json(body, 300).prompt == prompt


def test_a_byte_order_mark_does_no_harm() -> None:
    assert Song.from_json(b'\xef\xbb\xbf{"prompt": "jazz"}', 300).prompt == "jazz"


@pytest.mark.parametrize(
    "body",
    [b"", b"jazz", b'{"prompt": "jazz"', b'{"prompt": "\xff"}', b"[" * 100_000, b"\xff\xfe{\0}\0"],
)
def test_what_is_no_json_is_invalid_json(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        Song.from_json(body, 300)


def test_a_number_of_ten_thousand_digits_is_invalid_json() -> None:
    with pytest.raises(InvalidJson):
        Song.from_json(b'{"prompt": "jazz", "duration": ' + b"9" * 10_000 + b"}", 300)


@pytest.mark.parametrize("body", [b"null", b"5", b'"jazz"', b'[{"prompt": "jazz"}]', b"NaN"])
def test_the_body_must_be_an_object(body: bytes) -> None:
    with pytest.raises(InvalidField) as raised:
        Song.from_json(body, 300)
    assert raised.value.field is None


NO_TEXT: list[Any] = [None, 5, True, ["jazz"], {}, "\ud800", "jazz \udc00"]
NO_NUMBER: list[Any] = [None, "30", True, False, [30], {}]
NO_DURATION = [0, -0.0, -1, 300.01, 1e400, -1e400, float("nan"), 10**4000]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("prompt", value) for value in [*NO_TEXT, "", " \n\t", "x" * 2001]],
        *[("model", value) for value in NO_TEXT],
        *[("duration", value) for value in NO_NUMBER + NO_DURATION],
        *[(name, value) for name in NUMBERS for value in [*NO_NUMBER, -1, 1e400, float("nan")]],
        *[("seed", 2**63), ("seed", 0.5), ("top_k", 1.5), ("top_k", 1_000_001), ("top_p", 1.01)],
        *[("temperature", 0.009), ("temperature", 101), ("cfg_coef", 101), ("cfg_coef", 10**4000)],
        *[("extend_stride", 0), ("extend_stride", 29.5)],
        *[("format", value) for value in NO_TEXT],
        *[(name, 1) for name in ("Prompt", "speed", "", "\ud800", "x" * 100)],
    ],
)
def test_a_bad_field_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidField) as raised:
        read(**{"prompt": "jazz", field: value})
    assert raised.value.field == field
    assert 10 < len(raised.value.message) < 200


@pytest.mark.parametrize(("text", "duration"), [("5", 5.0), ("2.5", 2.5), ("1e1", 10), (" 3 ", 3)])
def test_a_forms_numbers_are_those_of_json(text: str, duration: float) -> None:
    assert Song.from_form({"prompt": "jazz", "duration": text}, 300).seconds == duration


@pytest.mark.parametrize(
    "text", ["1_0", "\u0661", "\uff11", "0x10", "long", "", "true", "null", "[5]", "[" * 10_000]
)
def test_what_json_has_for_no_number_is_none_in_a_form(text: str) -> None:
    with pytest.raises(InvalidField, match=r"duration is text; send a number of seconds\."):
        Song.from_form({"prompt": "jazz", "duration": text}, 300)


def test_a_forms_texts_may_look_like_numbers() -> None:
    assert Song.from_form({"prompt": "1999", "duration": "1"}, 300).prompt == "1999"


def test_a_missing_prompt_is_named() -> None:
    with pytest.raises(InvalidField, match="prompt is missing"):
        read(duration=5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": "jazz", "duration": 301}, "duration is 301; give seconds, more than 0, at mos"),
        ({"prompt": "x" * 2001}, "prompt has 2001 characters; shorten it to 2000."),
        ({"prompt": "jazz", "duration": "9"}, "duration is text; send a number of seconds."),
        ({"prompt": "jazz", "seed": -1}, "seed is -1; give 0 to 9223372036854775807."),
        ({"prompt": "jazz", "top_k": 2.5}, "top_k is 2.5; give a whole number."),
        ({"prompt": "jazz", "temperature": 0.001}, "temperature is 0.001; give 0 or 0.01 to 100."),
        ({"prompt": "jazz", "cfg_coef": "9"}, "cfg_coef is text; send a number."),
        ({"prompt": "jazz", "lenght": 5}, "There is no field 'lenght'; send model, prompt, dur"),
    ],
)
def test_messages_name_the_value_and_the_remedy(fields: Any, message: str) -> None:
    with pytest.raises(InvalidField, match=message):
        read(**fields)
