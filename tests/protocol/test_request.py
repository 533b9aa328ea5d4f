"""A song is checked once: what is wrong is named, what is right is exact."""

from typing import Any

import numpy as np
import pytest

from protocol.errors import InvalidInput, WeightsChanged
from protocol.request import Codes, Song


def inputs(**values: Any) -> dict[str, Any]:
    """Inputs as they come from Triton: numpy scalars and bytes."""
    types = {"SEED": np.int64, "TOP_K": np.int32, "START": np.int64, "PROMPT_SAMPLE_RATE": np.int32}
    return {
        "PROMPT": b"soft piano",
        "DURATION": np.float32(2),
        **{
            name: value
            if isinstance(value, bytes | np.ndarray)
            else types.get(name, np.float32)(value)
            for name, value in values.items()
        },
    }


MODEL: dict[str, Any] = {"window": 1500, "revision": "abc"}


def codes(frames: int, codebooks: int = 4) -> Codes:
    return np.zeros((codebooks, frames), np.int32)


def test_defaults_are_audiocrafts() -> None:
    song = Song.parse(inputs(), 300)
    assert (song.temperature, song.top_k, song.top_p, song.cfg_coef) == (1.0, 250, 0.0, 3.0)


@pytest.mark.parametrize(
    ("seconds", "frames"), [(0.001, 1), (0.02, 1), (0.7, 35), (1, 50), (36.08, 1804), (300, 15000)]
)
def test_length_is_counted_in_frames(seconds: float, frames: int) -> None:
    assert Song.parse(inputs(DURATION=seconds), 300).frames == frames


@pytest.mark.parametrize("seconds", [30.1, 36.08, 30.499])
def test_the_longest_song_may_be_asked_for_as_it_is_said(seconds: float) -> None:
    assert Song.parse(inputs(DURATION=seconds), seconds).frames == round(seconds * 50)


def test_every_bit_of_a_seed_counts() -> None:
    assert Song.parse(inputs(SEED=2**63 - 1), 300).seed == 2**63 - 1
    assert Song.parse(inputs(SEED=0), 300).seed == 0


def test_without_a_seed_songs_differ() -> None:
    assert len({Song.parse(inputs(), 300).seed for _ in range(10)}) > 1


@pytest.mark.parametrize("prompt", ["", "a\0b", "🎹 ピアノ", "x" * 2000])
def test_any_text_is_a_prompt(prompt: str) -> None:
    assert Song.parse(inputs(PROMPT=prompt.encode()), 300).prompt == prompt


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("PROMPT", b"\xff\xfe"),
        ("PROMPT", b"x" * 2001),
        ("DURATION", 0),
        ("DURATION", -1),
        ("DURATION", float("nan")),
        ("DURATION", float("inf")),
        ("DURATION", 301),
        ("SEED", -1),
        ("TEMPERATURE", -0.1),
        ("TEMPERATURE", 0.001),
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
def test_what_is_out_of_range_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        Song.parse(inputs(**{field: value}), 300)
    assert str(caught.value).startswith(f"[invalid_input] {field}: ")


@pytest.mark.parametrize("field", ["PROMPT", "DURATION"])
def test_what_is_missing_is_named(field: str) -> None:
    given = inputs()
    del given[field]
    with pytest.raises(InvalidInput, match=f"{field}: missing"):
        Song.parse(given, 300)


@pytest.mark.parametrize("setting", ["TEMPERATURE", "TOP_K", "TOP_P"])
def test_zero_turns_a_setting_off(setting: str) -> None:
    song = Song.parse(inputs(**{setting: 0}), 300)
    assert getattr(song, setting.lower()) == 0


@pytest.mark.parametrize("temperature", [0.01, 1, 100])
def test_temperature_may_be_at_either_end_of_its_range(temperature: float) -> None:
    song = Song.parse(inputs(TEMPERATURE=temperature), 300)
    assert song.temperature == np.float32(temperature)


@pytest.mark.parametrize("guidance", [0, 1, 20, 100])
def test_guidance_may_be_none_plain_or_strong(guidance: float) -> None:
    assert Song.parse(inputs(CFG_COEF=guidance), 300).cfg_coef == guidance


def test_a_song_from_its_beginning_holds_nothing() -> None:
    song = Song.parse(inputs(), 300)
    assert song.codes is None and song.start == 0


@pytest.mark.parametrize("held", [1, 60, 100])
@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_a_song_goes_on_from_any_sample_of_the_frames_held(held: int, share: float) -> None:
    start = int(share * held * 640)
    song = Song.parse(inputs(CODES=codes(held), START=start), 300)
    assert song.codes is not None and song.codes.shape == (4, held)
    assert (song.frames, song.start) == (100, start)


def test_codes_of_no_frame_hold_nothing() -> None:
    song = Song.parse(inputs(CODES=codes(0), START=0), 300)
    assert song.codes is None


def test_no_sample_can_have_been_had_beyond_the_codes() -> None:
    with pytest.raises(InvalidInput, match="START: 6401 is out of range; give 0 to 6400"):
        Song.parse(inputs(CODES=codes(10), START=6401), 300)


def test_codes_are_those_of_the_model() -> None:
    song = Song.parse(inputs(CODES=codes(10) + 2047), 300)
    song.check(codebooks=4, card=2048, **MODEL)
    with pytest.raises(InvalidInput, match=r"\] CODES: 4 codebooks; this model has 8$"):
        song.check(codebooks=8, card=2048, **MODEL)
    with pytest.raises(InvalidInput, match=r"\] CODES: 2047 is out of range; give 0 to 1023$"):
        song.check(codebooks=4, card=1024, **MODEL)


def test_a_song_without_codes_is_for_any_model() -> None:
    Song.parse(inputs(), 300).check(codebooks=8, card=1, **MODEL)


def test_a_song_may_ask_for_the_weights_that_it_was_begun_with() -> None:
    song = Song.parse(inputs(REVISION=b"abc"), 300)
    song.check(codebooks=4, card=2048, **MODEL)
    with pytest.raises(WeightsChanged, match="'abc' is not here; the weights are 'def' now"):
        song.check(codebooks=4, card=2048, window=1500, revision="def")


def test_a_stride_is_less_than_what_the_model_sees() -> None:
    song = Song.parse(inputs(EXTEND_STRIDE=29.98), 300)
    song.check(codebooks=4, card=2048, **MODEL)
    assert song.stride == 1499
    with pytest.raises(InvalidInput, match=r"EXTEND_STRIDE: 29\.98 is too much; give less than 20"):
        song.check(codebooks=4, card=2048, window=1000, revision="abc")


@pytest.mark.parametrize(
    ("channels", "sample_rate", "samples", "held"),
    [(1, 32_000, 640, 1), (8, 8_000, 8_000, 50), (2, 44_100, 44_100, 50), (1, 192_000, 7_679, 1)],
)
def test_a_song_goes_on_from_the_whole_frames_of_audio(
    channels: int, sample_rate: int, samples: int, held: int
) -> None:
    audio = np.zeros((channels, samples), np.float32)
    given = inputs(PROMPT_AUDIO=audio, PROMPT_SAMPLE_RATE=sample_rate, START=held * 640)
    song = Song.parse(given, 300)
    assert (song.held, song.start) == (held, held * 640)
    assert song.prompt_audio is not None and song.prompt_audio.shape == (channels, samples)


@pytest.mark.parametrize(
    ("audio", "others", "message"),
    [
        (np.zeros((0, 6400)), {}, "PROMPT_AUDIO: of shape"),
        (np.zeros((9, 6400)), {}, "PROMPT_AUDIO: of shape"),
        (np.zeros(6400), {}, "PROMPT_AUDIO: of shape"),
        (np.zeros((1, 0)), {}, "PROMPT_AUDIO: 0 s long; give 0.02 to 30"),
        (np.zeros((1, 639)), {}, "PROMPT_AUDIO: 0.0199688 s long"),
        (np.zeros((1, 961_000)), {"DURATION": 60}, "PROMPT_AUDIO: 30.0312 s long"),
        (np.zeros((1, 64_000)), {}, "PROMPT_AUDIO: 100 frames; the song has 100 with it"),
        (np.full((1, 6400), np.nan), {}, "PROMPT_AUDIO: not finite"),
        (np.zeros((1, 6400)), {"PROMPT_SAMPLE_RATE": 8}, "PROMPT_SAMPLE_RATE: 8 is out of range"),
        (np.zeros((1, 6400)), {"PROMPT_SAMPLE_RATE": 768_000}, "PROMPT_SAMPLE_RATE: 768000"),
        (np.zeros((1, 6400)), {"PROMPT_SAMPLE_RATE": 44_101}, "a multiple of 25 from 8000 to"),
        (np.zeros((1, 6400)), {"CODES": codes(3)}, "PROMPT_AUDIO: together with CODES"),
        (np.zeros((1, 6400)), {"START": 6401}, "START: 6401 is out of range; give 0 to 6400"),
    ],
)
def test_audio_that_no_song_can_go_on_from_is_named(
    audio: Any, others: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        Song.parse(inputs(PROMPT_AUDIO=audio.astype(np.float32), **others), 300)
