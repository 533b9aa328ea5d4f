"""In the last stage captions change in mid-song, and a teacher shows what must stay."""

from copy import deepcopy
from dataclasses import replace
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.conftest import numbered_songs
from training import changes, data, language_model
from training.batch import loss_weights
from training.caption import tempo_quality, without_accents
from training.changes import METRONOME_WEIGHT, ChangingBatch, draw_batch, next_step
from training.checkpoint import build_lm, write_text_encoder
from training.language_model import BAR_WEIGHT
from training.music import BEATS, PHRASE, Tempo
from training.structure import TINY, lm_config
from training.vocabulary import QUALITIES

PIECE = data.song(0)


@pytest.fixture(scope="module")
def codes() -> Tensor:
    return torch.randint(TINY.vocab_size, (2, 4, 130), generator=torch.Generator().manual_seed(0))


def test_another_piece_follows_on_a_beat_after_the_change() -> None:
    frames, songs = 300, numbered_songs(200)
    batch = draw_batch(songs, range(50, 200), 200, frames, Random(0), changes.FIRST_FROM)
    reworded, waited = 0, []  # beats
    assert frames / 3 <= batch.change <= frames * 2 / 3
    rows = zip(batch.excerpts, batch.weights, batch.captions, batch.later, strict=True)
    for index, (excerpt, weights, caption, later) in enumerate(rows):
        _, at, number, _ = excerpt.tolist()
        assert min(number) >= 50
        if index in batch.steady:
            assert {*number} == {number[0]}
            assert at == list(range(at[0], at[0] + frames))
            reworded += caption != later
            continue
        if number[0] == number[-1]:  # the same song again
            continue
        entry = number.index(number[-1])
        before, after = data.song(number[0]), data.song(number[-1])
        assert number == [number[0]] * entry + [number[-1]] * (frames - entry)
        waited.append((entry - batch.change) // before.beat)
        beat, rest = divmod(at[entry - 1] + 1, before.beat)  # the phrase goes on
        assert rest == 0 and at[entry] == beat % (PHRASE * BEATS) * after.beat
        drums, lead, _, _ = weights
        assert entry >= batch.change and lead[entry] == changes.FIRST_WEIGHT
        assert 1 < lead[entry + 1] < loss_weights(after, 0, 2, BAR_WEIGHT)[1] / 2
        assert torch.equal(drums, lead * METRONOME_WEIGHT)
    assert 15 < reworded < 45 and 70 < len(waited) < 120
    assert 0.35 < waited.count(0) / len(waited) < 0.65 and max(waited) > 2


def test_a_caption_names_the_tempo_if_it_changes() -> None:
    songs = numbered_songs(200)
    batch = draw_batch(songs, range(200), 200, 300, Random(1))
    changed, named = set(), []
    for excerpt, later in zip(batch.excerpts, batch.later, strict=True):
        before, after = (data.song(int(excerpt[2, frame])) for frame in (0, -1))
        if before.step != after.step:
            changed.add((before.step, after.step))
            assert after.step == next_step(before, after.tempo)
            words = without_accents("|".join(chain(*QUALITIES[tempo_quality(after)]))).split("|")
            named.append(any(word in without_accents(later) for word in words))
    assert len(changed) == 10
    # A word without meaning may stand inside of a phrase.
    assert sum(named) > 0.85 * len(named) > 30


def test_slow_and_fast_follow_each_other_at_half_and_double() -> None:
    def follows(step: int, tempo: Tempo) -> int:
        return next_step(replace(PIECE, step=step), tempo)

    assert [follows(step, "fast") for step in (12, 10, 8, 6, 5)] == [6, 5, 6, 6, 5]
    assert [follows(step, "slow") for step in (12, 10, 8, 6, 5)] == [12, 10, 12, 12, 10]
    assert {follows(step, "medium") for step in (12, 10, 8, 6, 5)} == {8}


def test_a_changed_caption_holds_from_its_frame_on(lm: Any, codes: Tensor, tmp_path: Path) -> None:
    """The logits are those of audiocraft's streaming with one caption, then the other."""
    write_text_encoder(tmp_path, TINY)
    streaming = build_lm(lm_config(TINY, channels=1), tmp_path).eval()
    streaming.load_state_dict(lm.state_dict())
    inputs = language_model.delayed(codes, lm.special_token_id)[..., :-1]
    before, later, change = ["slow piano", ""], ["fast drums with bass", ""], 12
    with torch.inference_mode(), streaming.streaming():
        parts = [
            streaming(part, [], language_model.encode_texts(lm, captions))
            for part, captions in ((inputs[..., :change], before), (inputs[..., change:], later))
        ]
    with torch.inference_mode():
        logits = changes.predict(lm, inputs, before, later, change)
        same = changes.predict(lm, inputs, before, before, change)
        plain = lm(inputs, [], language_model.encode_texts(lm, before))
    torch.testing.assert_close(logits, torch.cat(parts, dim=2), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(same, plain, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(logits[0, :, change:], plain[0, :, change:], atol=1e-3)


def test_the_teacher_of_steady_music_pulls_towards_itself(lm: Any, codes: Tensor) -> None:
    texts = ["slow piano", "fast drums"]
    other = deepcopy(lm)
    for parameter in other.linears.parameters():
        parameter.data.mul_(1.5)

    def loss(teacher: Any, steady: list[int]) -> float:
        torch.manual_seed(0)  # wrong codes in the input
        batch = ChangingBatch(codes, torch.ones_like(codes).float(), texts, texts, 60, steady)
        with torch.no_grad():
            return changes.loss(lm, teacher, batch, Random(0)).item()

    alone = loss(other, [])
    assert loss(lm, [0, 1]) == pytest.approx(alone, abs=1e-4)
    assert loss(other, [1]) > alone + 0.01


def test_the_learning_rate_falls_to_nothing_twice() -> None:
    recipe = changes.ChangesRecipe(torch.empty(0), Path(), Path())
    rates = [recipe.learning_rate(step) for step in range(recipe.steps)]
    first, second = rates[: changes.OPENINGS_FROM], rates[changes.OPENINGS_FROM :]
    top, end = first.index(changes.RATE), changes.OPENINGS_FROM - changes.DECAY
    assert first[: top + 1] == sorted(first[: top + 1])
    assert {*first[top : end + 1]} == {changes.RATE}
    assert first[end:] == sorted(first[end:], reverse=True)
    assert second == sorted(second, reverse=True) and second[0] == changes.OPENINGS_RATE
    assert max(first[-1], second[-1]) < 0.01 * changes.RATE


def test_openings_weigh_as_much_in_all_codebooks_at_last() -> None:
    songs = numbered_songs(50)
    before, after = (
        draw_batch(songs, range(50), 20, 300, Random(2), step)
        for step in (0, changes.OPENINGS_FROM)
    )
    opens = after.excerpts[:, 1, 0] == 0  # These begin with their song's first frame.
    assert 5 < opens.sum() < 20
    opening = after.weights[opens, :, : changes.OPENING]
    assert torch.equal(opening[:, 1], opening[:, 0])
    later = after.weights[:, :, changes.OPENING :]
    assert torch.equal(later[:, 1] * METRONOME_WEIGHT, later[:, 0])
    assert torch.equal(before.weights[:, 1] * METRONOME_WEIGHT, before.weights[:, 0])
