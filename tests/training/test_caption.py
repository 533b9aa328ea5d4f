"""A caption says nothing false."""

import re
from random import Random

import pytest

from training.caption import (
    add_unknown_words,
    qualities,
    tempo_quality,
    without_accents,
    write_caption,
)
from training.music import Piece, invent
from training.vocabulary import INSTRUMENTS, QUALITIES

PIECES = [invent(Random(number)) for number in range(300)]


def says(caption: str, phrases: tuple[str, ...]) -> bool:
    return any(re.search(rf"(?<![\w-]){re.escape(p)}(?![\w-])", caption) for p in phrases)


def untrue(piece: Piece) -> list[str]:
    """Words that are false of this piece."""
    true = qualities(piece) + ([piece.drums] if piece.drums else [])
    allowed = {phrase for name in true for words in QUALITIES[name] for phrase in words}
    allowed |= {
        phrase for player in piece.instruments for words in INSTRUMENTS[player] for phrase in words
    }
    return [
        phrase
        for names in (QUALITIES, INSTRUMENTS)
        for words in names.values()
        for phrase in (*words.english, *words.french)
        if not any(phrase in one for one in allowed)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_a_caption_is_true(seed: int) -> None:
    for number, piece in enumerate(PIECES):
        caption = write_caption(piece, Random(f"{seed} {number}"))
        false = [phrase for phrase in untrue(piece) if says(caption, (phrase,))]
        assert not false, (caption, piece)


def test_a_number_of_bpm_is_nearest_to_the_tempo_of_the_piece() -> None:
    rng = Random(0)
    tempi = sorted({piece.beats_per_minute for piece in PIECES})
    for piece in PIECES * 5:
        if found := re.search(r"(\d+) bpm", write_caption(piece, rng)):
            nearest = min(tempi, key=lambda tempo: abs(tempo - int(found[1])))
            assert nearest == piece.beats_per_minute


def test_a_caption_names_a_trait_that_it_must() -> None:
    for number, piece in enumerate(PIECES):
        trait = tempo_quality(piece)
        captions = [write_caption(piece, Random(f"{seed} {number}"), [trait]) for seed in range(5)]
        words = QUALITIES[trait].english + QUALITIES[trait].french
        words += tuple(without_accents(word) for word in words)
        # A word without meaning may stand inside of a phrase.
        assert sum(says(caption, words) for caption in captions) >= 3, captions


def test_captions_use_every_word() -> None:
    rng = Random(0)
    captions = " | ".join(write_caption(invent(rng), rng) for _ in range(20_000))
    for words in (*QUALITIES.values(), *INSTRUMENTS.values()):
        assert all(says(captions, (phrase,)) for phrase in (*words.english, *words.french))


def test_a_piece_has_many_captions() -> None:
    assert len({write_caption(PIECES[0], Random(seed)) for seed in range(100)}) > 60


def test_a_caption_keeps_its_words_among_unknown_words() -> None:
    rng = Random(0)
    captions = [add_unknown_words("slow piano", rng) for _ in range(200)]
    assert 30 < sum(caption != "slow piano" for caption in captions) < 90
    assert all({"slow", "piano"} <= set(caption.split()) for caption in captions)
