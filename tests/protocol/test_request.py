"""A request is checked once: an error names the field, a right value is exact."""

import re
from typing import Any

import numpy as np
import pytest

from protocol.constants import UNKNOWN, Codes
from protocol.errors import InvalidField, WeightsChanged
from protocol.parser import parse_request
from protocol.request import FIELDS, GenerationRequest
from protocol.tensors import from_tensors, to_array, to_tensors

MODEL: dict[str, Any] = {
    "codebooks": 4,
    "vocab_size": 2048,
    "window": 1500,
    "columns": 235,
    "revision": "abc",
}
INPUTS = {"PROMPT": "soft piano", "DURATION": 2}


def parse(max_duration: float = 300, **inputs: Any) -> GenerationRequest:
    """The request of these Triton inputs."""
    given = {**INPUTS, **inputs}
    types = {field.input: field.row.tensor[0] for field in FIELDS.values()}
    tensors = {name: to_array(value, types[name]) for name, value in given.items()}
    return parse_request(from_tensors(tensors), max_duration)


def codes(frames: int, codebooks: int = 4) -> Codes:
    return np.zeros((codebooks, frames), np.int32)


def test_defaults_are_audiocrafts() -> None:
    request = parse()
    sampling = (request.temperature, request.top_k, request.top_p, request.cfg_coef)
    assert sampling == (1.0, 250, 0.0, 3.0)


@pytest.mark.parametrize(
    ("seconds", "frames"), [(0.001, 1), (0.02, 1), (0.7, 35), (1, 50), (36.08, 1804), (300, 15000)]
)
def test_length_is_counted_in_frames(seconds: float, frames: int) -> None:
    assert parse(DURATION=seconds).frames == frames


@pytest.mark.parametrize("seconds", [30.1, 36.08, 30.499])
def test_the_longest_duration_is_allowed_as_written(seconds: float) -> None:
    assert parse(seconds, DURATION=seconds).frames == round(seconds * 50)


def test_every_bit_of_a_seed_counts() -> None:
    assert parse(SEED=2**63 - 1).seed == 2**63 - 1
    assert parse(SEED=0).seed == 0


def test_without_a_seed_songs_differ() -> None:
    assert len({parse().seed for _ in range(10)}) > 1
    assert len({parse(SEED=-1).seed for _ in range(10)}) > 1


@pytest.mark.parametrize("prompt", ["", "a\0b", "🎹 ピアノ", "x" * 2000])
def test_any_text_is_a_prompt(prompt: str) -> None:
    assert parse(PROMPT=prompt).prompt == prompt


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROMPT", np.array([b"\xff\xfe"], object)),
        ("PROMPT", "x" * 2001),
        ("DURATION", 0),
        ("DURATION", -1),
        ("DURATION", float("nan")),
        ("DURATION", float("inf")),
        ("DURATION", 301),
        ("SEED", -2),
        ("TEMPERATURE", -0.1),
        ("TEMPERATURE", float("nan")),
        ("TEMPERATURE", float("inf")),
        ("TOP_K", -1),
        ("TOP_K", 1_000_001),
        ("TOP_P", 1.1),
        ("TOP_P", -0.1),
        ("TOP_P", float("nan")),
        ("CFG_COEF", -1),
        ("CFG_COEF", float("nan")),
        ("CFG_COEF", float("inf")),
        ("CODES", codes(100)[0]),
        ("CODES", codes(100)[None]),
        ("CODES", codes(0, codebooks=0)),
        ("CODES", codes(10, codebooks=0)),
        ("CODES", codes(101)),
        ("CODES", codes(10) - 1),
        ("START", -1),
        ("START", 1),
    ],
)
def test_an_error_names_the_input_and_the_remedy(name: str, value: Any) -> None:
    with pytest.raises(InvalidField) as caught:
        parse(**{name: value})
    assert re.match(rf"\[invalid_input\] {name} .*; \w+ .*\.$", str(caught.value))
    assert caught.value.field == name.lower()


@pytest.mark.parametrize("name", ["prompt", "duration"])
def test_a_missing_field_is_named(name: str) -> None:
    values = {"prompt": "soft piano", "duration": 2}
    del values[name]
    with pytest.raises(InvalidField, match=f"{name.upper()} is missing; give "):
        parse_request(values, 300)


@pytest.mark.parametrize("setting", ["TEMPERATURE", "TOP_K", "TOP_P"])
def test_zero_turns_a_setting_off(setting: str) -> None:
    assert getattr(parse(**{setting: 0}), setting.lower()) == 0


@pytest.mark.parametrize("temperature", [0, 0.01, 100])
def test_temperature_reaches_both_ends_of_its_range(temperature: float) -> None:
    assert parse(TEMPERATURE=temperature).temperature == temperature


@pytest.mark.parametrize("guidance", [0, 1, 20, 100])
def test_guidance_may_be_none_plain_or_strong(guidance: float) -> None:
    assert parse(CFG_COEF=guidance).cfg_coef == guidance


def test_a_new_song_holds_no_codes() -> None:
    request = parse()
    assert request.codes is None and request.start == 0


@pytest.mark.parametrize("known", [1, 60, 100])
@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_a_song_resumes_at_any_sample_of_its_frames(known: int, share: float) -> None:
    start = int(share * known * 640)
    request = parse(CODES=codes(known), START=start)
    assert request.codes is not None and request.codes.shape == (4, known)
    assert (request.frames, request.start) == (100, start)


def test_codes_without_a_frame_are_no_codes() -> None:
    assert parse(CODES=codes(0), START=0).codes is None


def test_a_start_beyond_the_codes_is_refused() -> None:
    with pytest.raises(InvalidField, match="START is 6401; give 0 to 6400, for the request holds"):
        parse(CODES=codes(10), START=6401)


def test_codes_fit_the_model() -> None:
    request = parse(CODES=codes(10) + 2047)
    request.check_model(**MODEL)
    with pytest.raises(InvalidField, match="CODES has 4 codebooks; this model has 8"):
        request.check_model(**{**MODEL, "codebooks": 8})
    with pytest.raises(InvalidField, match="CODES holds 2047; give 0 to 1023"):
        request.check_model(**{**MODEL, "vocab_size": 1024})


def test_a_request_without_codes_fits_any_model() -> None:
    parse().check_model(**{**MODEL, "codebooks": 8, "vocab_size": 1})


def test_a_request_may_name_the_weights_of_its_song() -> None:
    request = parse(REVISION="abc")
    request.check_model(**MODEL)
    with pytest.raises(WeightsChanged, match="'abc' is not here; the weights are 'def' now"):
        request.check_model(**{**MODEL, "revision": "def"})


def test_a_stride_is_shorter_than_the_models_window() -> None:
    request = parse(EXTEND_STRIDE=28.98)
    request.check_model(**MODEL)
    assert request.stride == 1449
    with pytest.raises(InvalidField, match=r"EXTEND_STRIDE is 28\.98; give less than 20, the win"):
        request.check_model(**{**MODEL, "window": 1000})


@pytest.mark.parametrize(
    ("channels", "sample_rate", "samples", "frames"),
    [(1, 32_000, 640, 1), (8, 8_000, 8_000, 50), (2, 44_100, 44_100, 50), (1, 192_000, 7_679, 1)],
)
def test_a_song_continues_whole_frames_of_audio(
    channels: int, sample_rate: int, samples: int, frames: int
) -> None:
    audio = np.zeros((channels, samples), np.float32)
    request = parse(PROMPT_AUDIO=audio, PROMPT_SAMPLE_RATE=sample_rate, START=frames * 640)
    assert (request.prompt_frames, request.start) == (frames, frames * 640)
    assert request.prompt_audio is not None and request.prompt_audio.shape == (channels, samples)


@pytest.mark.parametrize(
    ("audio", "others", "message"),
    [
        (np.zeros((0, 6400)), {}, "prompt_audio has the shape"),
        (np.zeros((9, 6400)), {}, "prompt_audio has the shape"),
        (np.zeros(6400), {}, "prompt_audio has the shape"),
        (np.zeros((1, 0)), {}, "prompt_audio lasts 0 s; give 0.02 to 30"),
        (np.zeros((1, 639)), {}, "prompt_audio lasts 0.0199688 s"),
        (np.zeros((1, 961_000)), {"DURATION": 60}, "prompt_audio lasts 30.0312 s"),
        (np.zeros((1, 64_000)), {}, "prompt_audio has 100 frames; the song has 100 with it"),
        (np.full((1, 6400), np.nan), {}, "prompt_audio holds NaN"),
        (np.zeros((1, 6400)), {"PROMPT_SAMPLE_RATE": 8}, "prompt_sample_rate is 8; give 8000"),
        (np.zeros((1, 6400)), {"PROMPT_SAMPLE_RATE": 768_000}, "prompt_sample_rate is 768000"),
        (np.zeros((1, 6400)), {"PROMPT_SAMPLE_RATE": 44_101}, "a multiple of 25 from 8000 to"),
        (np.zeros((1, 6400)), {"CODES": codes(3)}, "prompt_audio comes with codes"),
        (np.zeros((1, 6400)), {"START": 6401}, "start is 6401; give 0 to 6400"),
    ],
)
def test_audio_that_no_song_can_continue_is_refused(
    audio: Any, others: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        parse(PROMPT_AUDIO=audio.astype(np.float32), **others)
    assert message in caught.value.message


CHROMA = np.zeros((2, 235), np.int32)
PART = np.concatenate([CHROMA[:1], CHROMA[:1] + UNKNOWN])
MELODY = np.zeros((1, 6400), np.float32)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"CHROMA": PART}, "chroma holds -1; give 0 to 11, or melody beside it"),
        ({"CHROMA": PART - 1, "MELODY": MELODY}, "chroma holds -2; give 0 to 11"),
        ({"CHROMA": CHROMA, "MELODY": MELODY}, "melody comes with chroma; send one of them"),
        ({"MELODY": np.zeros((9, 6400))}, "melody has the shape [9, 6400]"),
        ({"MELODY": np.zeros((1, 600))}, "melody lasts 0.01875 s; give 0.02 to 120 s"),
        ({"MELODY": np.zeros((1, 8_000 * 121))}, "melody lasts 121 s; give 0.02 to 120 s"),
    ],
)
def test_a_melody_that_no_song_can_follow_is_refused(inputs: dict[str, Any], message: str) -> None:
    if "MELODY" in inputs:
        inputs = {**inputs, "MELODY": inputs["MELODY"].astype(np.float32)}
        inputs["MELODY_SAMPLE_RATE"] = 8_000 if inputs["MELODY"].size > 10**5 else 32_000
    with pytest.raises(InvalidField) as caught:
        parse(**inputs)
    assert message in caught.value.message


def test_a_melody_known_in_part_comes_beside_its_audio() -> None:
    request = parse(CHROMA=PART, MELODY=MELODY)
    assert request.chroma is not None and np.array_equal(request.chroma, PART)
    assert request.melody is not None


@pytest.mark.parametrize("longest", [3.35, 10.015, 0.333333, 300.0])
def test_a_rounded_duration_is_never_too_long(longest: float) -> None:
    """The gateway rounds to whole frames, and the engine checks the result again."""
    request = parse_request({"prompt": "jazz", "duration": longest}, longest)
    assert parse_request(from_tensors(to_tensors(request)), longest) == request


def test_an_empty_revision_is_any() -> None:
    values = {"prompt": "jazz", "duration": 1, "revision": ""}
    parse_request(values, 300).check_model(**MODEL)
