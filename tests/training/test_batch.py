"""A step learns from excerpts of songs, and most from where a song or a bar begins."""

from random import Random

import torch

from training import data
from training.batch import GIVEN, draw, weights_of
from training.music import MOMENTS

PIECE = data.song(0)


def test_how_a_song_goes_on_from_its_middle_is_learnt_but_not_to_begin_there() -> None:
    begun, later = (weights_of(PIECE, start, GIVEN + 50, 1.0) for start in (0, 7))
    assert (begun > 0).all() and (later > 0).tolist() == [False] * GIVEN + [True] * 50


def test_the_first_frame_of_a_song_counts_most() -> None:
    weights = weights_of(PIECE, 0, 400, 1.0).tolist()
    assert weights == sorted(weights, reverse=True) and weights[0] > 10 * weights[-1]


def test_the_first_frames_of_bars_can_count_more() -> None:
    for start in (0, 7):
        plain, bars = (weights_of(PIECE, start, 600, w) for w in (1.0, 40.0))
        more = [start + frame for frame in (plain != bars).nonzero()[:, 0].tolist()]
        assert len(more) > 1 and all(frame % PIECE.bar == 0 for frame in more)
        assert set(bars[plain != bars].tolist()) == {40.0}


def test_excerpts_are_what_their_song_is_from_where_they_begin() -> None:
    lead = torch.arange(3_000)
    silence = data.METRONOME + lead % MOMENTS
    songs = torch.stack([silence, lead, lead, silence]).expand(2, 4, -1)
    batch = draw(songs, 60, GIVEN + 50, Random(0), 1.0)
    assert batch.excerpts.shape == (60, 4, GIVEN + 50) and len(batch.captions) == 60
    starts = batch.excerpts[:, 1, 0]
    begins = starts == 0
    assert torch.equal(batch.weights[:, 0] > 0, begins) and 20 < begins.sum() < 60
    whole = torch.stack([songs[0, :, at : at + GIVEN + 50] for at in starts.tolist()])
    assert torch.equal(batch.excerpts[:, 1:3], whole[:, 1:3])
    assert torch.equal(batch.excerpts[..., GIVEN:], whole[..., GIVEN:])
    unclocked = (batch.excerpts != whole).any(2).any(1)
    assert 0 < unclocked.sum() < (~begins).sum() and not unclocked[begins].any()
    assert not batch.excerpts[unclocked][:, [0, 3], :GIVEN].any()
