"""The rows of the table of request fields: each kind, and each field of a request."""

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from protocol.errors import InvalidField
from protocol.fields import Array, Duration, Number, Row, Text
from protocol.parser import parse_request, request_fields
from protocol.request import FIELDS, GenerationRequest
from protocol.tensors import INPUTS, from_tensors, to_tensors

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("row", "schema", "words", "tensor"),
    [
        (Text(""), {"type": "string"}, "", ("STRING", [1])),
        (
            Text("", max_length=2_000),
            {"type": "string", "maxLength": 2_000},
            "at most 2,000 characters",
            ("STRING", [1]),
        ),
        (
            Text("", choices=("wav", "mp3")),
            {"type": "string", "enum": ["wav", "mp3"]},
            "`wav`, `mp3`",
            ("STRING", [1]),
        ),
        (
            Number("", 0.5, 100),
            {"type": "number", "minimum": 0.5, "maximum": 100},
            "0.5 to 100",
            ("FP32", [1]),
        ),
        (
            Number("", 0, 1_000_000, whole=True),
            {"type": "integer", "minimum": 0, "maximum": 1_000_000},
            "0 to 1000000",
            ("INT32", [1]),
        ),
        (
            Number("", 0, 2**63 - 1, whole=True),
            {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
            "0 to 9223372036854775807",
            ("INT64", [1]),
        ),
        (
            Duration("", high=300),
            {"type": "number", "exclusiveMinimum": 0, "maximum": 300},
            "more than 0, at most `MAX_DURATION`",
            ("FP32", [1]),
        ),
    ],
)
def test_a_row_has_a_schema_a_range_and_a_tensor(
    row: Row, schema: dict[str, Any], words: str, tensor: tuple[str, list[int]]
) -> None:
    assert (row.schema, row.range, row.tensor) == (schema, words, tensor)


def test_an_array_is_a_tensor_of_two_dimensions() -> None:
    row = Array("", "INT32")
    assert row.tensor == ("INT32", [-1, -1])
    matrix = np.zeros((4, 3), np.int32)
    assert row.check("codes", matrix) is matrix
    with pytest.raises(InvalidField, match=r"^\[invalid_input\] CODES has the shape \[3\]; give"):
        row.check("codes", matrix[0])


@pytest.mark.parametrize(
    ("row", "value", "problem"),
    [
        (Text("", max_length=3), "abcd", "has 4 characters; shorten it to 3"),
        (Text("", choices=("wav", "mp3")), "ogg", "is 'ogg'; give wav, mp3"),
        (Text(""), "\ud800", "holds half a character; send whole Unicode"),
        (Text(""), ["a"], "is a list; send text"),
        (Number("", 1, 5, whole=True), 2.5, "is 2.5; give a whole number"),
        (Number("", 1, 5), 6, "is 6; give 1 to 5"),
        (Number("", 1, 5), 10**40, "is 1" + 26 * "0" + "...; give 1 to 5"),
        (Number("", 1, 5), True, "is true or false; send a number"),
        (Number("", 1, 5), None, "is null; send a number"),
        (Duration("", high=60), 61.0, "is 61; give seconds, more than 0, at most 60"),
        (Duration("", high=60), {}, "is an object; send a number of seconds"),
    ],
)
def test_an_error_tells_value_and_remedy(row: Row, value: Any, problem: str) -> None:
    with pytest.raises(InvalidField) as caught:
        row.check("name", value)
    assert caught.value.message == f"name {problem}."
    assert caught.value.field == "name"


@pytest.mark.parametrize(
    ("row", "value", "limits"),
    [
        (Text("", max_length=3), "abcd", {"maxLength": 3}),
        (Number("", 1, 5), 6, {"type": "number", "minimum": 1, "maximum": 5}),
        (Number("", 1, 5, whole=True), 2.5, {"type": "integer", "minimum": 1, "maximum": 5}),
        (Number("", 1, 5), None, {"type": "number", "minimum": 1, "maximum": 5}),
        (Duration("", high=9), 10, {"type": "number", "exclusiveMinimum": 0, "maximum": 9}),
        (Duration("", high=9), "", {"type": "number", "exclusiveMinimum": 0, "maximum": 9}),
    ],
)
def test_an_error_has_the_limits_as_data(row: Row, value: Any, limits: dict[str, Any]) -> None:
    with pytest.raises(InvalidField) as caught:
        row.check("name", value)
    assert caught.value.limits == limits


def test_a_choice_may_be_in_upper_case() -> None:
    assert Text("", choices=("wav", "mp3")).check("format", "WAV") == "wav"


def test_a_duration_is_counted_in_whole_frames() -> None:
    frames = [Duration("").check("", seconds) for seconds in (0.001, 0.02, 1, 36.08)]
    assert frames == [1, 1, 50, 1804]


NUMBERS = ["duration", "seed", "temperature", "top_k", "top_p", "cfg_coef", "extend_stride"]
OUTSIDE: dict[str, list[float]] = {
    "duration": [0, -1, 300.02, NAN, INF],
    "seed": [-2, 2**63, 0.5],
    "temperature": [-0.1, 100.5, NAN, INF],
    "top_k": [-1, 1_000_001, 0.5, NAN, INF],
    "top_p": [-0.1, 1.1, NAN, INF],
    "cfg_coef": [-1, 100.5, NAN, INF],
    "extend_stride": [0, 0.5, 29.5, NAN, INF],
}
NO_NUMBERS: list[Any] = ["1", True, None, [1], {}]
NO_TEXTS: list[Any] = [1, True, None, [], {}, "x" * 2_001, "\ud800"]
WRONG = [
    *((name, value) for name in NUMBERS for value in [*NO_NUMBERS, *OUTSIDE[name]]),
    *(("prompt", value) for value in NO_TEXTS),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_json_value_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidField) as caught:
        parse_request({"prompt": "jazz", "duration": 2, name: value}, 300)
    assert caught.value.field == name
    assert caught.value.message.startswith(f"{name} ")


TENSORS = [
    (name, np.array([value], np.float32))
    for name in ("duration", "temperature", "top_p", "cfg_coef", "extend_stride")
    for value in OUTSIDE[name]
] + [
    ("seed", np.array([-2], np.int64)),
    ("top_k", np.array([-1], np.int32)),
    ("top_k", np.array([1_000_001], np.int32)),
    ("prompt", np.array([b"\xff"], object)),
    ("prompt", np.array([b"x" * 2_001], object)),
]


@pytest.mark.parametrize(("name", "tensor"), TENSORS)
def test_a_wrong_tensor_is_refused_by_its_name(name: str, tensor: Any) -> None:
    right = to_tensors(GenerationRequest("jazz", frames=100))
    with pytest.raises(InvalidField) as caught:
        parse_request(from_tensors({**right, name.upper(): tensor}), 300)
    assert caught.value.field == name
    assert str(caught.value).startswith(f"[invalid_input] {name.upper()} ")


@pytest.mark.parametrize("name", NUMBERS)
def test_an_integer_is_a_number_for_json(name: str) -> None:
    parse_request({"prompt": "", "duration": 2, name: 1}, 300)


FULL = GenerationRequest(
    prompt="🎹 ピアノ",
    frames=1_804,
    seed=2**63 - 1,
    temperature=0.01,
    top_k=17,
    top_p=0.35,
    cfg_coef=2.7,
    extend_stride=11.52,
    codes=np.arange(12, dtype=np.int32).reshape(4, 3),
    start=1_281,
    revision="0123456789ab",
    separate=False,
    chroma=np.arange(12, dtype=np.int32).reshape(2, 6),
)
AUDIO = replace(
    FULL,
    codes=None,
    chroma=None,
    melody=np.linspace(-1, 1, 960, dtype=np.float32).reshape(2, -1),
    melody_sample_rate=8_000,
    prompt_audio=np.linspace(-1, 1, 88_200, dtype=np.float32).reshape(2, -1),
    prompt_sample_rate=44_100,
)


@pytest.mark.parametrize("request_", [FULL, AUDIO, GenerationRequest("", frames=1)])
def test_a_request_survives_as_tensors(request_: GenerationRequest) -> None:
    copy = parse_request(from_tensors(to_tensors(request_)), 300)
    for field in fields(GenerationRequest):
        one, other = getattr(request_, field.name), getattr(copy, field.name)
        assert type(one) is type(other)
        assert np.array_equal(one, other)
        assert not isinstance(one, np.ndarray) or one.dtype == other.dtype


def test_tensors_have_the_types_that_triton_is_told() -> None:
    types = {row["name"]: (row["data_type"], len(row["dims"])) for row in INPUTS}
    kinds = {"TYPE_STRING": "O", "TYPE_FP32": "f4", "TYPE_INT32": "i4", "TYPE_INT64": "i8"}
    kinds["TYPE_BOOL"] = "?"
    for name, tensor in {**to_tensors(FULL), **to_tensors(AUDIO)}.items():
        data_type, dimensions = types[name]
        assert tensor.dtype == np.dtype(kinds[data_type])
        assert tensor.ndim == dimensions


def test_every_field_of_a_request_is_a_row() -> None:
    assert {field.attribute for field in FIELDS.values()} == {
        field.name for field in fields(GenerationRequest)
    }
    assert all(field.row.doc and not field.row.doc.endswith(".") for field in FIELDS.values())
    assert [row["name"] for row in INPUTS] == [field.input for field in FIELDS.values()]


def test_defaults_are_right_values() -> None:
    parse_request(GenerationRequest("", frames=1).values(), 300)


def test_a_service_limits_the_duration() -> None:
    assert request_fields(60.5)["duration"].row.schema["maximum"] == 60.5
    assert FIELDS["duration"].row.schema["maximum"] == INF
