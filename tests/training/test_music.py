"""Pieces keep to their key, their tempo and their players."""

from random import Random

import pytest

from training.music import (
    FRAMES_A_STEP,
    INSTRUMENTS,
    MOMENTS,
    PHRASE,
    PLACES,
    SCALES,
    STEPS,
    Note,
    Piece,
    compose,
    invent,
    moments,
    places,
)

FRAMES = 1_000
PIECES = [invent(Random(number)) for number in range(200)]


def notes_of(piece: Piece, seed: int = 0) -> list[Note]:
    return compose(piece, FRAMES, Random(seed))


@pytest.mark.parametrize("piece", PIECES[:50])
def test_notes_are_in_key_and_in_time(piece: Piece) -> None:
    for note in notes_of(piece):
        assert note.start % piece.step == 0 and note.frames % piece.step == 0
        assert 0 <= note.start < FRAMES and note.frames > 0
        if note.instrument != "drums":
            assert note.pitch % 12 in SCALES[piece.mode]


@pytest.mark.parametrize("piece", PIECES[:50])
def test_who_is_announced_plays_and_nobody_else(piece: Piece) -> None:
    assert {note.instrument for note in notes_of(piece)} == set(piece.instruments)


def test_the_mode_can_be_heard() -> None:
    """The third above the tonic, which tells major from minor, comes in every tonal piece."""
    for piece in PIECES:
        if piece.leads:
            third = 4 if piece.mode == "major" else 3
            assert third in {note.pitch % 12 for note in notes_of(piece)}, piece


def test_pieces_differ_in_all_that_a_caption_can_say() -> None:
    assert {player for piece in PIECES for player in piece.instruments} == set(INSTRUMENTS)
    assert {piece.tempo for piece in PIECES} == set(FRAMES_A_STEP)
    assert {piece.mode for piece in PIECES} == set(SCALES)
    assert {len(piece.instruments) for piece in PIECES} == {1, 2, 3, 4}


def test_a_moment_tells_the_tempo_and_the_place_in_the_bar_and_nothing_else() -> None:
    told: dict[tuple[int, int], int] = {}
    for piece in PIECES:
        for frame, moment in enumerate(moments(piece, 400)):
            place = piece.step, frame % (STEPS * piece.step)
            assert told.setdefault(place, moment) == moment
    assert sorted(told.values()) == list(range(MOMENTS))


def test_a_place_tells_tempo_mode_and_the_note_of_the_phrase_and_nothing_else() -> None:
    told: dict[tuple[int, str, int], int] = {}
    for piece in PIECES:
        for frame, place in enumerate(places(piece, 2 * PHRASE * piece.bar)):
            at = piece.step, piece.mode, frame // piece.step % (PHRASE * STEPS)
            assert told.setdefault(at, place) == place
    assert sorted(told.values()) == list(range(PLACES))


def test_what_comes_again_after_a_phrase_is_the_same() -> None:
    for piece in PIECES:
        frames = 3 * PHRASE * piece.bar
        notes = compose(piece, frames, Random(0))
        later = {note._replace(start=note.start + PHRASE * piece.bar) for note in notes}
        assert {note for note in later if note.start < frames} <= set(notes)


def test_tempo_is_what_the_steps_say() -> None:
    for piece in PIECES:
        lowest, highest = {"slow": (60, 80), "medium": (90, 110), "fast": (120, 155)}[piece.tempo]
        assert lowest < piece.beats_a_minute < highest


def test_only_one_lead_plays_at_a_time_and_its_tones_end_before_the_next() -> None:
    """So that a codebook has to know single tones and chords, and no sums of them."""
    for piece in PIECES:
        ends = 0
        for start in sorted({note.start for note in notes_of(piece) if note.part == "lead"}):
            together = [n for n in notes_of(piece) if n.part == "lead" and n.start == start]
            assert start >= ends and len({note.instrument for note in together}) == 1
            ends = max(note.start + note.frames for note in together)


def test_a_song_comes_again_every_four_bars() -> None:
    for piece in PIECES[:50]:
        around = 4 * 16 * piece.step
        notes = notes_of(piece)
        later = [note for note in notes if note.start >= around]
        again = [note._replace(start=note.start + around) for note in notes]
        assert later == [note for note in again if note.start < FRAMES]


def test_a_seed_composes_the_same_again_and_another_something_else() -> None:
    piece = next(piece for piece in PIECES if piece.leads and piece.texture == "melody")
    assert notes_of(piece, 1) == notes_of(piece, 1)
    assert len({tuple(notes_of(piece, seed)) for seed in range(20)}) > 10
