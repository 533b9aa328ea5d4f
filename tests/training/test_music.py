"""Pieces keep to their key, their tempo and their instruments."""

from random import Random

import pytest

from training.music import (
    BAR_POSITIONS,
    FRAMES_PER_STEP,
    INSTRUMENTS,
    PHRASE,
    PHRASE_POSITIONS,
    SCALES,
    STEPS,
    Note,
    Piece,
    bar_positions,
    compose,
    invent,
    phrase_positions,
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
def test_a_piece_has_exactly_its_instruments(piece: Piece) -> None:
    assert {note.instrument for note in notes_of(piece)} == set(piece.instruments)


def test_every_tonal_piece_contains_its_third() -> None:
    """Every piece with a lead contains the third above the tonic, which decides the mode."""
    for piece in PIECES:
        if piece.leads:
            third = 4 if piece.mode == "major" else 3
            assert third in {note.pitch % 12 for note in notes_of(piece)}, piece


def test_pieces_cover_all_traits_of_captions() -> None:
    assert {name for piece in PIECES for name in piece.instruments} == set(INSTRUMENTS)
    assert {piece.tempo for piece in PIECES} == set(FRAMES_PER_STEP)
    assert {piece.mode for piece in PIECES} == set(SCALES)
    assert {len(piece.instruments) for piece in PIECES} == {1, 2, 3, 4}


def test_a_bar_position_is_the_tempo_and_the_frame_of_the_bar() -> None:
    numbers: dict[tuple[int, int], int] = {}
    for piece in PIECES:
        for frame, number in enumerate(bar_positions(piece, 400)):
            position = piece.step, frame % (STEPS * piece.step)
            assert numbers.setdefault(position, number) == number
    assert sorted(numbers.values()) == list(range(BAR_POSITIONS))


def test_a_phrase_position_is_tempo_mode_and_step_of_the_phrase() -> None:
    numbers: dict[tuple[int, str, int], int] = {}
    for piece in PIECES:
        for frame, number in enumerate(phrase_positions(piece, 2 * PHRASE * piece.bar)):
            position = piece.step, piece.mode, frame // piece.step % (PHRASE * STEPS)
            assert numbers.setdefault(position, number) == number
    assert sorted(numbers.values()) == list(range(PHRASE_POSITIONS))


def test_phrases_repeat() -> None:
    for piece in PIECES:
        frames = 3 * PHRASE * piece.bar
        notes = compose(piece, frames, Random(0))
        later = {note._replace(start=note.start + PHRASE * piece.bar) for note in notes}
        assert {note for note in later if note.start < frames} <= set(notes)


def test_the_tempo_matches_the_frames_of_a_step() -> None:
    for piece in PIECES:
        lowest, highest = {"slow": (60, 80), "medium": (90, 110), "fast": (120, 155)}[piece.tempo]
        assert lowest < piece.beats_per_minute < highest


def test_tones_of_leads_do_not_overlap() -> None:
    """So that a codebook needs single tones and chords only, not their sums."""
    for piece in PIECES:
        ends = 0
        for start in sorted({note.start for note in notes_of(piece) if note.part == "lead"}):
            together = [n for n in notes_of(piece) if n.part == "lead" and n.start == start]
            assert start >= ends and len({note.instrument for note in together}) == 1
            ends = max(note.start + note.frames for note in together)


def test_a_song_repeats_every_four_bars() -> None:
    for piece in PIECES[:50]:
        period = 4 * 16 * piece.step
        notes = notes_of(piece)
        later = [note for note in notes if note.start >= period]
        shifted = [note._replace(start=note.start + period) for note in notes]
        assert later == [note for note in shifted if note.start < FRAMES]


def test_a_seed_repeats_its_notes_and_seeds_differ() -> None:
    piece = next(piece for piece in PIECES if piece.leads and piece.texture == "melody")
    assert notes_of(piece, 1) == notes_of(piece, 1)
    assert len({tuple(notes_of(piece, seed)) for seed in range(20)}) > 10
