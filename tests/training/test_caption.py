"""A caption says nothing that is not so."""

import re
from random import Random

import pytest

from training.caption import INSTRUMENTS, QUALITIES, describe, disturb, qualities
from training.music import Piece, invent

PIECES = [invent(Random(number)) for number in range(300)]


def says(caption: str, phrases: tuple[str, ...]) -> bool:
    return any(re.search(rf"(?<![\w-]){re.escape(p)}(?![\w-])", caption) for p in phrases)


def untrue(piece: Piece) -> list[str]:
    """Words of which each would be a lie."""
    true = qualities(piece) + ([piece.drums] if piece.drums else [])
    so = {phrase for name in true for words in QUALITIES[name] for phrase in words}
    so |= {
        phrase for player in piece.instruments for words in INSTRUMENTS[player] for phrase in words
    }
    return [
        phrase
        for names in (QUALITIES, INSTRUMENTS)
        for words in names.values()
        for phrase in (*words.english, *words.french)
        if not any(phrase in one for one in so)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_what_a_caption_says_is_so(seed: int) -> None:
    for number, piece in enumerate(PIECES):
        caption = describe(piece, Random(f"{seed} {number}"))
        lies = [phrase for phrase in untrue(piece) if says(caption, (phrase,))]
        assert not lies, (caption, piece)


def test_a_tempo_in_numbers_is_nearer_to_its_own_than_to_any_other() -> None:
    rng = Random(0)
    tempi = sorted({piece.beats_a_minute for piece in PIECES})
    for piece in PIECES * 5:
        if found := re.search(r"(\d+) bpm", describe(piece, rng)):
            nearest = min(tempi, key=lambda tempo: abs(tempo - int(found[1])))
            assert nearest == piece.beats_a_minute


def test_every_word_comes_up() -> None:
    rng = Random(0)
    said = " | ".join(describe(invent(rng), rng) for _ in range(20_000))
    for words in (*QUALITIES.values(), *INSTRUMENTS.values()):
        assert all(says(said, (phrase,)) for phrase in (*words.english, *words.french))


def test_a_piece_is_described_in_many_ways() -> None:
    assert len({describe(PIECES[0], Random(seed)) for seed in range(100)}) > 60


def test_a_disturbed_caption_keeps_its_words() -> None:
    rng = Random(0)
    disturbed = [disturb("slow piano", rng) for _ in range(200)]
    assert 30 < sum(caption != "slow piano" for caption in disturbed) < 90
    assert all({"slow", "piano"} <= set(caption.split()) for caption in disturbed)
