"""A song that is changed while it is made."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from musicgen_engine.core.loaded_model import LoadedModel
from protocol.errors import InvalidField, QueueFull, SongEnded, TooManyChanges
from protocol.prompt import WeightedText
from protocol.request import GenerationRequest
from tests.musicgen_engine.core.harness import Harness, Result, generate, generate_together
from tests.musicgen_engine.core.songs import random_codes, with_short_windows

SONG = GenerationRequest("a calm piano melody", frames=120, seed=7)
DRUMS: dict[str, Any] = {"prompt": "loud drums", "top_k": 40}
BLEND = (WeightedText("a flute", 0.5), WeightedText("loud drums", 0.5))


def steered(
    model: LoadedModel,
    frames: int,
    *mates: GenerationRequest,
    lasts: int | None = None,
    **values: Any,
) -> tuple[Harness, Result]:
    """The song that gets a change when so many frames are made."""
    harness = Harness(model)
    for mate in mates:
        harness.submit(mate)
    result = harness.submit(SONG)
    while result.sequence.codes is None or result.sequence.next_frame < frames:
        harness.step()
    harness.change(result, **values | ({"frames": lasts} if lasts else {}))
    harness.run()
    return harness, result


@pytest.mark.parametrize("frame", [0, 1, 30, 90])
def test_a_change_is_a_section_from_the_next_frame_on(tiny: LoadedModel, frame: int) -> None:
    harness, result = steered(tiny, frame, **DRUMS)
    assert harness.changes == [frame]
    whole = generate(tiny, SONG.changed(frame, DRUMS))
    assert np.array_equal(result.codes, whole.codes)
    assert np.array_equal(result.audio, whole.audio)


def test_a_song_that_waits_changes_from_its_beginning(tiny: LoadedModel) -> None:
    harness = Harness(tiny)
    result = harness.submit(SONG)
    harness.change(result, **DRUMS)
    harness.run()
    assert harness.changes == [0]
    assert np.array_equal(result.codes, generate(tiny, replace(SONG, **DRUMS)).codes)


@pytest.mark.parametrize("prompt", ["loud drums", BLEND], ids=["a text", "a blend"])
def test_a_steered_song_does_not_depend_on_its_mates(tiny: LoadedModel, prompt: Any) -> None:
    mates = [replace(SONG, seed=seed, prompt=f"song {seed}") for seed in range(4)]
    harness, result = steered(tiny, 50, *mates, prompt=prompt)
    assert harness.changes == [50]
    whole = generate(tiny, SONG.changed(50, {"prompt": prompt}))
    assert np.array_equal(result.codes, whole.codes)


@pytest.mark.parametrize("steps", [2, 3])
@pytest.mark.parametrize("back", [False, True], ids=["once", "and back"])
def test_other_words_begin_a_prefix_anew(melody: LoadedModel, steps: int, back: bool) -> None:
    """In a model that takes a melody the text stands before the codes."""
    mate, harness = replace(SONG, frames=60), Harness(melody)
    harness.submit(mate)
    for _ in range(20):
        harness.step()
    result = harness.submit(SONG)  # its prefix is prefilled in small chunks beside the mate
    for _ in range(steps):
        harness.step()
    harness.change(result, prompt="drums " * 9)
    if back:
        harness.step()
        harness.step()
        time.sleep(0.25)  # changes in quick succession are refused
        harness.change(result, prompt=SONG.prompt)
    harness.run()
    assert harness.changes == [0] * (1 + back)
    whole = generate(melody, replace(SONG, prompt=SONG.prompt if back else "drums " * 9))
    assert np.array_equal(result.codes, whole.codes)


STRONG: dict[str, Any] = {"prompt": "loud drums", "temperature": 3.0, "top_k": 2048}


@pytest.mark.parametrize("steps", [0, 1, 2, 4])
def test_a_resumed_song_is_changed_behind_its_last_codes(tiny: LoadedModel, steps: int) -> None:
    """Positions behind its frames made the last codes of these, under the old condition."""
    known = generate(tiny, SONG).codes[:, :50]
    harness = Harness(tiny)
    result = harness.submit(replace(SONG, codes=known, start=50 * 640, arrival_time=1))
    for _ in range(steps):
        harness.step()
    harness.change(result, **STRONG)
    harness.run()
    (frame,) = harness.changes
    assert isinstance(frame, int)
    whole = generate(tiny, SONG.changed(frame, STRONG))
    assert np.array_equal(result.codes, whole.codes[:, 50:])


@pytest.mark.parametrize("position", [99, 100, 101, 102, 103])
def test_a_change_between_two_windows_is_exact(tiny: LoadedModel, position: int) -> None:
    """The last positions of a window are of frames that the next window makes."""
    model, song = with_short_windows(tiny), replace(SONG, extend_stride=1.0)
    harness = Harness(model)
    result = harness.submit(song)
    while result.sequence.frames_done < position - 3:
        harness.step()
    harness.change(result, **STRONG)
    harness.run()
    assert harness.changes == [position]
    whole = generate(model, song.changed(position, STRONG))
    assert np.array_equal(result.codes, whole.codes)


def test_a_change_for_some_seconds_goes_back(tiny: LoadedModel) -> None:
    _, result = steered(tiny, 30, lasts=20, **DRUMS)
    timeline = [(part.prompt, part.frames) for part in result.sequence.request.timeline]
    assert timeline == [(SONG.prompt, 30), ("loud drums", 20), (SONG.prompt, 70)]
    assert np.array_equal(result.codes, generate(tiny, SONG.changed(30, DRUMS, 20)).codes)


def test_a_change_after_the_end_is_refused(tiny: LoadedModel) -> None:
    harness = Harness(tiny)
    result = harness.submit(replace(SONG, frames=20))
    while result.sequence.frames_left:
        harness.step()
    harness.change(result, **DRUMS)
    harness.run()
    harness.change(result, **DRUMS)
    assert [type(change) for change in harness.changes] == [SongEnded, SongEnded]
    assert np.array_equal(result.codes, generate(tiny, replace(SONG, frames=20)).codes)


def test_a_change_of_a_song_that_has_all_its_codes_is_refused(tiny: LoadedModel) -> None:
    harness = Harness(tiny)
    result = harness.submit(replace(SONG, codes=random_codes(SONG.frames), arrival_time=1))
    harness.step()
    harness.change(result, **DRUMS)
    harness.run()
    assert [type(change) for change in harness.changes] == [SongEnded]


def test_changes_in_quick_succession_are_refused(tiny: LoadedModel) -> None:
    harness = Harness(tiny)
    result = harness.submit(SONG)
    for number in range(100):
        harness.change(result, cfg_coef=float(number))
    harness.run()
    assert harness.changes[0] == 0
    assert {type(change) for change in harness.changes[1:]} == {TooManyChanges}


def test_a_change_that_the_model_cannot_make_leaves_the_song(tiny: LoadedModel) -> None:
    harness, result = steered(tiny, 30, prompt="\ufdfa" * 2000)
    (error,) = harness.changes
    assert isinstance(error, InvalidField) and "12003 tokens" in error.message
    assert np.array_equal(result.codes, generate(tiny, SONG).codes)


def test_a_blend_without_a_free_slot_is_refused(tiny: LoadedModel) -> None:
    model = replace(tiny, slots=2)
    harness, result = steered(model, 30, SONG, prompt=BLEND)
    (error,) = harness.changes
    assert isinstance(error, QueueFull)
    assert np.array_equal(result.codes, generate(tiny, SONG).codes)


PACED = replace(SONG, frames=130, pace="playback")


def test_a_song_at_the_pace_of_playback_is_the_same(tiny: LoadedModel) -> None:
    """And it takes as long as it lasts, but for the 2 s that it may be ahead."""
    start = time.monotonic()
    harness = Harness(tiny)
    paced, fast = harness.submit(PACED), harness.submit(SONG)
    harness.run()
    assert time.monotonic() - start > 0.55  # 2.6 s of music
    assert np.array_equal(paced.codes, generate(tiny, replace(PACED, pace="fast")).codes)
    assert np.array_equal(fast.codes, generate_together(tiny, {0: SONG})[0].codes)


def test_a_song_at_the_pace_of_playback_is_at_most_two_seconds_ahead(tiny: LoadedModel) -> None:
    harness = Harness(tiny)
    result = harness.submit(replace(PACED, frames=110))
    start = time.monotonic()
    while not result.ended:
        harness.engine.scheduler.wait()
        harness.step()
        ahead = result.sequence.frames_done / 50 - (time.monotonic() - start)
        assert ahead < 2.03
