"""Writes random captions of a piece, in English or French.

Each caption draws its traits, words and word order.
"""

import unicodedata
from collections.abc import Collection
from random import Random

from training.music import Instrument, Piece
from training.vocabulary import (
    ALONE,
    ARTICLES,
    FILLERS,
    INSTRUMENTS,
    LINKS,
    MANNERS,
    NOUNS,
    OF_INSTRUMENTS,
    OPENERS,
    QUALITIES,
    Words,
)

LETTERS = "etaoinsrhldcumfpgwybvkxjqz"  # the most frequent first


def tempo_quality(piece: Piece) -> str:
    return "medium tempo" if piece.tempo == "medium" else piece.tempo


def qualities(piece: Piece) -> list[str]:
    """The keys of `QUALITIES` that are true of the piece."""
    drums_alone = piece.instruments == ["drums"]
    melodic = bool(piece.leads)
    true = {
        tempo_quality(piece): True,
        # The words for modes say C. A bass alone may not show its mode.
        piece.mode: melodic and not piece.tonic,
        piece.texture: melodic and piece.texture != "melody",
        piece.register: melodic and piece.register != "middle",
        piece.density: piece.density != "medium",
        piece.drums or "": drums_alone,
        "happy": piece.mode == "major" and piece.tempo != "slow" and melodic,
        "sad": piece.mode == "minor" and piece.tempo == "slow" and melodic,
        "calm": piece.tempo == "slow" and piece.density != "dense" and piece.drums != "loud",
        "epic": piece.mode == "minor" and piece.drums == "loud" and melodic,
        "energetic": piece.tempo == "fast" and piece.density != "sparse",
        "dark": piece.mode == "minor" and piece.register == "low" and melodic,
        "bright": piece.mode == "major" and piece.register == "high" and melodic,
    }  # fmt: skip
    return [name for name, is_true in true.items() if is_true]


def write_caption(piece: Piece, rng: Random, named: Collection[str] = ()) -> str:
    """A caption that names some of the traits of the piece, these in any case, nothing false."""
    language = 0 if rng.random() < 0.75 else 1
    detail = rng.choice((0.2, 0.6, 0.9))
    words = [
        rng.choice(QUALITIES[name][language])
        for name in qualities(piece)
        if name in named or rng.random() < detail
    ]
    if rng.random() < 0.15:
        words.append(f"{_near(piece.beats_per_minute, rng)} bpm")
    rng.shuffle(words)
    first, *others = [_name(each, piece, language, rng) for each in piece.instruments]
    others = [other for other in others if rng.random() < 0.95]
    if rng.random() < 0.25:  # a list
        parts = [first, *others, *words]
        if rng.random() < 0.5:
            rng.shuffle(parts)
        return rng.choice([", ", " "]).join(parts)
    sentence = _write_sentence(first, others, words, len(piece.instruments) == 1, language, rng)
    for _ in range(rng.choice((0, 0, 1, 2, 4))):
        sentence = _insert(sentence, rng.choice(FILLERS[language]), rng)
    sentence += rng.choice(("", "", "", ".", "!", "?"))
    return without_accents(sentence) if rng.random() < 0.1 else sentence


def _write_sentence(
    first: str, others: list[str], words: list[str], alone: bool, language: int, rng: Random
) -> str:
    """The first instrument or a noun, with words before and after it, and the other instruments."""

    def one_of(words: Words) -> str:
        return rng.choice(words[language])

    def with_article(name: str) -> str:
        return f"{one_of(ARTICLES)} {name}" if rng.random() < 0.3 else name

    cut = rng.randint(0, len(words))
    before, after = words[:cut], words[cut:]
    noun = one_of(NOUNS)
    first, *others = [with_article(name) for name in (first, *others)]
    form = rng.random()
    if form < 0.25:  # a song with X and Y
        parts = [noun, *before] if language else [*before, noun]
        parts += [one_of(OF_INSTRUMENTS), first]
    else:
        head = [first] if form < 0.65 else [first, noun] if form < 0.97 else [noun]
        parts = [*head, *before] if language else [*before, *head]
    if alone and rng.random() < 0.15:
        parts.append(one_of(ALONE))
    if others:
        separator = (" and ", " et ")[language] if rng.random() < 0.7 else ", "
        parts += [one_of(LINKS), separator.join(others)]
    if after and rng.random() < 0.4:
        after = [one_of(MANNERS), *after]
    if len(after) > 1 and rng.random() < 0.5:
        after[-1:] = [("and", "et")[language], after[-1]]
    if rng.random() < 0.35:
        parts = [one_of(OPENERS), *parts]
    join = rng.choice((" ", " ", ", ", ": "))
    return join.join(" ".join(words) for words in (parts, after) if words)


def add_unknown_words(caption: str, rng: Random) -> str:
    """The caption with some random words in it, three times of ten."""
    if rng.random() < 0.7:
        return caption
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        word = rng.choices(LETTERS, weights=range(len(LETTERS), 0, -1), k=rng.randint(2, 9))
        caption = _insert(caption, "".join(word), rng)
    return caption


def _name(instrument: Instrument, piece: Piece, language: int, rng: Random) -> str:
    """A word for the instrument; drums beside other instruments may get their loudness too."""
    name = rng.choice(INSTRUMENTS[instrument][language])
    if instrument != "drums" or piece.drums is None or len(piece.instruments) == 1:
        return name
    if rng.random() < 0.6:
        loudness = rng.choice(QUALITIES[piece.drums][language])
        return f"{loudness} {name}" if language == 0 else f"{name} {loudness}"
    return name


def _near(tempo: float, rng: Random) -> int:
    """A whole number that is nearer to this tempo than to any other one."""
    return round(tempo * rng.uniform(0.97, 1.03))


def without_accents(sentence: str) -> str:
    letters = unicodedata.normalize("NFD", sentence)
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _insert(sentence: str, word: str, rng: Random) -> str:
    words = sentence.split(" ")
    words.insert(rng.randint(0, len(words)), word)
    return " ".join(words)
