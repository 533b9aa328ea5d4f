"""A training batch holds excerpts of songs, and weighs where a song or a bar begins most."""

from random import Random

import torch

from tests.training.conftest import numbered_songs
from training import data
from training.batch import CONTEXT, draw_batch, loss_weights

PIECE = data.song(0)


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
