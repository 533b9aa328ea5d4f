"""musicgen-tiny follows the prompt, in some songs of `python -m training.evaluation.adherence`."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest
import torch

from protocol.constants import FRAME_RATE
from protocol.request import GenerationRequest
from tests.musicgen_engine.conftest import TINY, load
from training.evaluation.adherence import PROMPTS, Prompt, generate, judge
from training.evaluation.hearing import (
    bass_or_flute,
    drums_or_strings,
    major_or_minor,
    slow_or_fast,
)
from training.music import Piece, compose
from training.sound import play

SECONDS = 8
INSTRUMENTS = {p.text for p in PROMPTS if p.decide in (drums_or_strings, bass_or_flute)}
SILENT = Piece(
    mode="major", step=8, leads=(), texture="melody", bass=False, drums=None,
    register="middle", density="medium",
)  # fmt: skip


@pytest.mark.parametrize(
    ("decide", "side", "traits"),
    [
        (drums_or_strings, "drums", {"drums": "loud"}),
        (drums_or_strings, "strings", {"leads": ("strings",)}),
        (slow_or_fast, "slow", {"step": 12, "leads": ("piano",), "drums": "soft"}),
        (slow_or_fast, "slow", {"step": 12, "leads": ("guitar",), "drums": "soft"}),
        (slow_or_fast, "fast", {"step": 6, "leads": ("piano",), "drums": "soft"}),
        (bass_or_flute, "bass", {"bass": True}),
        (bass_or_flute, "flute", {"leads": ("flute",)}),
        (major_or_minor, "major", {"leads": ("guitar",)}),
        (major_or_minor, "minor", {"leads": ("guitar",), "mode": "minor"}),
    ],
)
def test_the_judge_is_right_about_composed_music(
    decide: Any, side: str, traits: dict[str, Any]
) -> None:
    frames = SECONDS * FRAME_RATE
    for seed in range(3):
        notes = compose(replace(SILENT, **traits), frames, Random(seed))
        assert judge(Prompt("", side, decide), play(notes, frames))


def test_the_music_follows_the_prompt() -> None:
    torch.set_num_threads(1)
    requests = [GenerationRequest(p.text, SECONDS * FRAME_RATE, seed=0) for p in PROMPTS]
    sounds = zip(PROMPTS, generate(load(TINY), requests), strict=True)
    wrong = [prompt.text for prompt, sound in sounds if not judge(prompt, sound)]
    assert len(PROMPTS) == 20 and len(wrong) <= 3, wrong
    assert len(INSTRUMENTS) == 10 and len(INSTRUMENTS & {*wrong}) <= 2, wrong
