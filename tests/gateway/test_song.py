"""What may be asked for; every other body is refused with the field's name."""

import json
from typing import Any

import pytest

from gateway.errors import InvalidField, InvalidJson
from gateway.song import Song


def read(max_duration: float = 300.0, **fields: Any) -> Song:
    return Song.from_json(json.dumps(fields).encode(), max_duration)


def test_only_the_prompt_is_required() -> None:
    assert read(prompt="jazz") == Song(None, "jazz", 1500)


def test_the_default_duration_keeps_the_limit() -> None:
    assert read(10.0, prompt="jazz").seconds == 10


@pytest.mark.parametrize(
    ("duration", "frames"), [(1, 50), (0.7, 35), (36.08, 1804), (300, 15_000), (1e-9, 1)]
)
def test_duration_is_whole_frames_and_at_least_one(duration: float, frames: int) -> None:
    song = read(prompt="jazz", duration=duration)
    assert (song.frames, song.samples) == (frames, frames * 640)


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
        *[(name, 1) for name in ("Prompt", "seed", "", "\ud800", "x" * 100)],
    ],
)
def test_a_bad_field_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidField) as raised:
        read(**{"prompt": "jazz", field: value})
    assert raised.value.field == field
    assert 10 < len(raised.value.message) < 200


def test_a_missing_prompt_is_named() -> None:
    with pytest.raises(InvalidField, match="prompt is missing"):
        read(duration=5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": "jazz", "duration": 301}, "duration is 301; give seconds, more than 0, at mos"),
        ({"prompt": "x" * 2001}, "prompt has 2001 characters; shorten it to 2000."),
        ({"prompt": "jazz", "duration": "9"}, "duration is text; send a number of seconds."),
        ({"prompt": "jazz", "lenght": 5}, "There is no field 'lenght'; send model, prompt, dur"),
    ],
)
def test_messages_name_the_value_and_the_remedy(fields: Any, message: str) -> None:
    with pytest.raises(InvalidField, match=message):
        read(**fields)
