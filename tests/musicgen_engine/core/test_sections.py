"""Songs whose text or settings change, and blends of texts."""

from dataclasses import replace

import numpy as np

from musicgen_engine.core.loaded_model import LoadedModel
from protocol.errors import InvalidField
from protocol.prompt import WeightedText
from protocol.request import GenerationRequest
from tests.musicgen_engine.core.harness import Harness, Result, generate, generate_together
from tests.musicgen_engine.core.songs import (
    BLENDS,
    DRUMS,
    SAMPLED,
    A,
    B,
    blended,
    joining,
    mates,
    same,
)


def begin_alike(first: Result, second: Result) -> bool:
    """Position 60 makes frame 60 of the first codebook, and frame 57 of the fourth."""
    return all(
        np.array_equal(first.codes[k, : 60 - k], second.codes[k, : 60 - k])
        for k in range(len(first.codes))
    )


def test_a_changed_text_counts_from_its_frame(sampled: Result, drummed: Result) -> None:
    assert begin_alike(sampled, drummed)
    assert not np.array_equal(sampled.codes[:, 60:], drummed.codes[:, 60:])


def test_the_next_text_is_encoded_ahead(tiny: LoadedModel) -> None:
    """So that the song does not wait for it where its section begins."""
    harness = Harness(tiny)
    song = harness.submit(SAMPLED.changed(60, DRUMS))
    while song.sequence.frames_done < 30:
        harness.step()
    assert {scope[0] for scope in song.sequence.conditionings} == {SAMPLED.prompt, "loud drums"}


def test_the_same_text_again_changes_nothing(tiny: LoadedModel, sampled: Result) -> None:
    assert same(generate(tiny, SAMPLED.changed(60, {})), sampled)


def test_a_changed_song_does_not_depend_on_its_batch_mates(
    tiny: LoadedModel, drummed: Result
) -> None:
    harness = Harness(tiny)
    for request in mates(60).values():
        harness.submit(request)
    result = harness.submit(SAMPLED.changed(60, DRUMS))
    harness.run()
    assert same(result, drummed)


def test_each_section_is_sampled_with_its_settings(tiny: LoadedModel) -> None:
    greedy = generate(tiny, replace(SAMPLED, temperature=0.0).changed(60, {"temperature": 1.0}))
    alone = generate(tiny, replace(SAMPLED, temperature=0.0))
    assert begin_alike(greedy, alone)
    assert not np.array_equal(greedy.codes[:, 60:], alone.codes[:, 60:])


def test_the_prompt_as_negative_prompt_leaves_guidance_without_effect(tiny: LoadedModel) -> None:
    """Both rows are equal, so no difference of theirs is left to be scaled."""
    same_text = replace(SAMPLED, negative_prompt=SAMPLED.prompt)
    songs = [generate(tiny, replace(same_text, cfg_coef=scale)) for scale in (0.0, 3.0, 50.0)]
    assert all(same(song, songs[0]) for song in songs)


def test_a_negative_prompt_counts_in_its_section(tiny: LoadedModel, sampled: Result) -> None:
    led_away = generate(tiny, SAMPLED.changed(60, {"negative_prompt": "loud drums"}))
    assert begin_alike(led_away, sampled)
    assert not np.array_equal(led_away.codes[:, 60:], sampled.codes[:, 60:])
    together = generate_together(
        tiny, {**mates(60), 60: SAMPLED.changed(60, {"negative_prompt": "loud drums"})}
    )
    assert same(together[-1], led_away)


def test_a_text_of_a_later_section_is_checked_before_the_song(tiny: LoadedModel) -> None:
    refused = generate(tiny, SAMPLED.changed(60, {"negative_prompt": "\ufdfa" * 340}))
    assert isinstance(refused.error, InvalidField) and refused.chunks == []
    assert refused.error.field == "sections[1].negative_prompt"
    assert "has 2043 tokens of text; shorten it to 1997" in refused.error.message


def test_a_blend_of_one_text_is_that_text(tiny: LoadedModel, sampled: Result) -> None:
    assert same(generate(tiny, blended(SAMPLED, {A: 17.0})), sampled)


def test_weights_count_by_their_shares(tiny: LoadedModel) -> None:
    few, many = ({A: 0.25 * factor, B: 0.75 * factor} for factor in (1.0, 8.0))
    assert same(generate(tiny, blended(SAMPLED, few)), generate(tiny, blended(SAMPLED, many)))


def test_a_song_whose_rows_join_is_the_same_in_a_batch(tiny: LoadedModel, joined: Result) -> None:
    together = generate_together(tiny, {**mates(60), 60: joining(SAMPLED)})
    assert same(together[-1], joined)
    alone = [generate(tiny, request) for request in mates(60).values()]
    assert all(map(same, together, alone))


def test_a_row_that_joins_has_seen_what_the_first_has(tiny: LoadedModel, sampled: Result) -> None:
    """A blend of one text with itself goes on as that text, but for rounding."""
    twice = (WeightedText(A, 0.5), WeightedText(A, 0.5))
    greedy = replace(SAMPLED, temperature=0.0)
    result = generate(tiny, greedy.changed(60, {"prompt": twice}))
    assert np.array_equal(result.codes, generate(tiny, greedy).codes)


def test_a_blend_waits_for_as_many_slots_as_it_needs(tiny: LoadedModel) -> None:
    harness = Harness(tiny)
    songs = [GenerationRequest("x", 20, seed=n) for n in range(tiny.slots - 1)]
    blend = blended(GenerationRequest("", 5, seed=1), BLENDS["two"])
    first = [harness.submit(song) for song in songs]
    second, later = harness.submit(blend), harness.submit(GenerationRequest("x", 5, seed=9))
    for _ in range(15):
        harness.step()
    assert not (second.chunks or later.chunks)  # first come, first served
    harness.run()
    assert all(result.chunks[-1].last for result in (*first, second, later))


def test_a_blend_of_more_than_all_slots_is_refused(tiny: LoadedModel) -> None:
    refused = generate(replace(tiny, slots=1), blended(SAMPLED, BLENDS["two"]))
    assert isinstance(refused.error, InvalidField)
    assert refused.error.message.startswith("sections[0].prompt has 2 texts; give 1")
