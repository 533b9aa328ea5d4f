"""A training batch holds excerpts of songs, and weighs where a song or a bar begins most."""

from dataclasses import replace
from itertools import chain
from random import Random

import torch

from training import data
from training.batch import CONTEXT, METRONOME_WEIGHT, draw_batch, loss_weights, next_step
from training.caption import QUALITIES, tempo_quality, without_accents
from training.music import BAR_POSITIONS, BEATS, PHRASE, Tempo

PIECE = data.song(0)


def numbered_songs(count: int) -> torch.Tensor:
    """Songs whose codes in the second codebook tell their frame, and in the third their number."""
    frame = torch.arange(3_000)
    silence = data.FIRST_POSITION_CODE + frame % BAR_POSITIONS
    return torch.stack(
        [torch.stack([silence, frame, torch.full_like(frame, n), silence]) for n in range(count)]
    ).short()


def test_the_context_of_a_later_excerpt_weighs_nothing() -> None:
    opening, later = (
        loss_weights(PIECE, 7, CONTEXT + 50, 1.0, context=context) for context in (0, CONTEXT)
    )
    assert (opening > 0).all() and (later > 0).tolist() == [False] * CONTEXT + [True] * 50


def test_the_first_frame_of_a_song_weighs_most() -> None:
    weights = loss_weights(PIECE, 0, 400, 1.0).tolist()
    assert weights == sorted(weights, reverse=True) and weights[0] > 10 * weights[-1]


def test_the_first_frame_of_each_bar_can_weigh_more() -> None:
    for start in (0, 7):
        plain, bars = (loss_weights(PIECE, start, 600, w, context=start) for w in (1.0, 40.0))
        more = [start + frame for frame in (plain != bars).nonzero()[:, 0].tolist()]
        assert len(more) > 1 and all(frame % PIECE.bar == 0 for frame in more)
        assert set(bars[plain != bars].tolist()) == {40.0}


def test_an_excerpt_is_its_song_from_its_start_on() -> None:
    songs = numbered_songs(2)
    batch = draw_batch(songs, range(2), 60, CONTEXT + 50, Random(0), 1.0)
    assert batch.later == batch.captions
    assert batch.excerpts.shape == (60, 4, CONTEXT + 50) and len(batch.captions) == 60
    starts = batch.excerpts[:, 1, 0]
    from_start = starts == 0
    assert torch.equal(batch.weights[:, 0, 0] > 0, from_start) and 20 < from_start.sum() < 60
    whole = torch.stack([songs[0, :, at : at + CONTEXT + 50] for at in starts.tolist()])
    assert torch.equal(batch.excerpts[:, 1], whole[:, 1])
    silent = [0, 1, 3]
    assert torch.equal(batch.excerpts[:, silent, CONTEXT:], whole[:, silent, CONTEXT:])
    dropped = (batch.excerpts[:, 0] != whole[:, 0]).any(1)
    assert 0 < dropped.sum() < (~from_start).sum() and not dropped[from_start].any()
    assert not batch.excerpts[dropped][:, [0, 3], :CONTEXT].any()


def test_another_piece_follows_on_the_beat_after_the_change() -> None:
    frames, songs = 300, numbered_songs(200)
    batch = draw_batch(songs, range(50, 200), 200, frames, Random(0), 1.0, changes=True)
    followed = reworded = 0
    assert frames / 3 <= batch.change <= frames * 2 / 3
    rows = zip(batch.excerpts, batch.weights, batch.captions, batch.later, strict=True)
    for excerpt, weights, caption, later in rows:
        _, at, number, _ = excerpt.tolist()
        assert min(number) >= 50
        if number[0] == number[-1]:
            assert at == list(range(at[0], at[0] + frames))
            reworded += caption != later
            continue
        followed += 1
        entry = number.index(number[-1])
        before, after = data.song(number[0]), data.song(number[-1])
        assert number == [number[0]] * entry + [number[-1]] * (frames - entry)
        assert 0 <= entry - batch.change < before.beat
        beat, rest = divmod(at[entry - 1] + 1, before.beat)  # the phrase goes on
        assert rest == 0 and at[entry] == beat % (PHRASE * BEATS) * after.beat
        drums, lead, _, _ = weights
        assert lead[-1] < lead[entry] < loss_weights(after, 0, 1, 1.0)[0] / 2
        assert torch.equal(drums, lead * METRONOME_WEIGHT)
    assert 70 < followed < 110 and 10 < reworded < 35


def test_a_caption_names_the_tempo_if_it_changes() -> None:
    songs = numbered_songs(200)
    batch = draw_batch(songs, range(200), 200, 300, Random(1), 1.0, changes=True)
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
