"""The judge of `python -m training.evaluation.changes` hears what follows a new prompt."""

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np

from protocol.constants import FRAME_RATE, SAMPLE_RATE
from training.evaluation.changes import (
    AFTER,
    BEFORE,
    DRUMS,
    HEARD_WITHIN,
    MINOR,
    STRINGS,
    Change,
    judge,
    request,
)
from training.evaluation.hearing import Sound
from training.music import Piece, compose
from training.sound import play

DEADLINE = BEFORE + HEARD_WITHIN  # seconds of the song
SILENT = Piece(
    mode="major", step=8, leads=(), texture="melody", bass=False, drums=None,
    register="middle", density="medium",
)  # fmt: skip


def composed(seconds: int, **traits: Any) -> Sound:
    frames = seconds * FRAME_RATE
    return play(compose(replace(SILENT, **traits), frames, Random(0)), frames)


def test_only_what_follows_the_deadline_counts() -> None:
    drums, strings = (
        {"drums": "loud"},
        {"leads": ("strings",), "mode": "minor"},
    )
    rest = BEFORE + AFTER - DEADLINE
    late, never = (
        np.concatenate([composed(DEADLINE, **first), composed(rest, **last)])
        for first, last in ((drums, strings), (strings, strings))
    )
    for sound in (late, never):
        assert len(sound) == (BEFORE + AFTER) * SAMPLE_RATE
        assert judge(Change("", "", (STRINGS, MINOR)), sound)
        assert not judge(Change("", "", (DRUMS,)), sound)


def test_all_decisions_must_be_right() -> None:
    sound = composed(BEFORE + AFTER, leads=("strings",))
    assert judge(Change("", "", (STRINGS,)), sound)
    assert not judge(Change("", "", (STRINGS, MINOR)), sound)


def test_a_request_has_a_section_for_each_prompt() -> None:
    song = request(Change("slow piano", "fast drums", (DRUMS,)), seed=3)
    assert [section.prompt for section in song.timeline] == ["slow piano", "fast drums"]
    assert song.frames == sum(section.frames for section in song.timeline)
