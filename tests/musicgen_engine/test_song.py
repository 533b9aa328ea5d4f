"""A song is checked once: what is wrong is named, what is right is exact."""

from typing import Any

import numpy as np
import pytest

from musicgen_engine.errors import InvalidInput
from musicgen_engine.song import Song


def inputs(**values: Any) -> dict[str, Any]:
    """Inputs as they come from Triton: numpy scalars and bytes."""
    types = {"SEED": np.int64, "TOP_K": np.int32}
    return {
        "PROMPT": b"soft piano",
        "DURATION": np.float32(2),
        **{
            name: value if isinstance(value, bytes) else types.get(name, np.float32)(value)
            for name, value in values.items()
        },
    }


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
        ("TOP_K", -1),
        ("TOP_P", 1.1),
        ("CFG_COEF", float("inf")),
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
