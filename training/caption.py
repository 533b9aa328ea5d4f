"""Writes random captions of a piece, in English or French.

The words are the vocabulary of musicgen-tiny. Each caption draws its traits, words and word order.
"""

from random import Random
from typing import NamedTuple

from training.music import Instrument, Piece


class Words(NamedTuple):
    english: tuple[str, ...]
    french: tuple[str, ...]


INSTRUMENTS: dict[Instrument, Words] = {
    "piano": Words(("piano", "piano", "keyboard", "grand piano"), ("piano", "clavier")),
    "organ": Words(("organ", "organ", "church organ"), ("orgue",)),
    "guitar": Words(("guitar", "guitar", "acoustic guitar"), ("guitare", "guitare acoustique")),
    "bass": Words(("bass", "bass", "bass guitar"), ("basse",)),
    "strings": Words(
        ("strings", "strings", "violins", "violin", "string orchestra"),
        ("cordes", "violons", "violon"),
    ),
    "brass": Words(("brass", "brass", "trumpet", "horns", "horn"), ("cuivres", "trompette")),
    "flute": Words(("flute", "flute", "recorder"), ("flûte",)),
    "synth": Words(("synth", "synth", "synthesizer", "electronic"), ("synthé", "synthétiseur")),
    "drums": Words(("drums", "drums", "percussion", "beat"), ("batterie", "percussions")),
}
# The words for each trait of a piece.
QUALITIES: dict[str, Words] = {
    "slow": Words(("slow", "slow", "slow tempo", "unhurried"), ("lent", "lente", "tempo lent")),
    "medium tempo": Words(
        ("medium tempo", "moderate", "walking pace"), ("modéré", "modérée", "tempo modéré")
    ),
    "fast": Words(
        ("fast", "fast", "fast tempo", "quick", "rapid"), ("rapide", "vite", "tempo rapide")
    ),
    "major": Words(
        ("major", "in C major", "in a major key"), ("majeur", "en do majeur", "majeure")
    ),
    "minor": Words(
        ("minor", "in C minor", "in a minor key"), ("mineur", "en do mineur", "mineure")
    ),
    "chords": Words(("chords", "in chords"), ("accords", "en accords")),
    "arpeggio": Words(("arpeggio", "arpeggios", "broken chords"), ("arpège", "arpèges")),
    "low": Words(("low", "low", "deep"), ("grave",)),
    "high": Words(("high", "high", "high-pitched"), ("aigu", "aiguë")),
    "sparse": Words(("sparse", "simple", "minimal", "few notes"), ("simple", "épuré", "épurée")),
    "dense": Words(("dense", "busy", "many notes", "rich"), ("dense", "chargé", "chargée")),
    "soft": Words(("soft", "quiet", "gentle"), ("doux", "douce")),
    "loud": Words(("loud", "strong", "powerful"), ("fort", "forte", "puissant", "puissante")),
    "happy": Words(
        ("happy", "happy", "joyful", "cheerful", "playful"), ("joyeux", "joyeuse", "gai", "gaie")
    ),
    "sad": Words(("sad", "sad", "melancholic", "mournful"), ("triste", "mélancolique")),
    "calm": Words(("calm", "calm", "peaceful", "relaxing", "dreamy"), ("calme", "paisible")),
    "epic": Words(("epic", "epic", "heroic", "cinematic", "dramatic"), ("épique",)),
    "energetic": Words(("energetic", "lively", "driving", "upbeat"), ("énergique", "vif", "vive")),
    "dark": Words(("dark", "gloomy", "mysterious"), ("sombre",)),
    "bright": Words(("bright", "light", "sunny"), ("lumineux", "lumineuse", "clair", "claire")),
}
NOUNS = Words(
    ("music", "piece", "tune", "song", "track", "melody", "solo"), ("musique", "morceau", "mélodie")
)
# Words without meaning, anywhere in a caption, so that the model learns to ignore them.
FILLERS = Words(
    ("a", "the", "some", "of", "for", "nice", "please", "beautiful", "instrumental", "new"),
    ("un", "une", "le", "la", "de", "pour", "beau", "belle", "joli", "instrumental"),
)
LETTERS = "etaoinsrhldcumfpgwybvkxjqz"  # the most frequent first


def qualities(piece: Piece) -> list[str]:
    """The keys of `QUALITIES` that are true of the piece."""
    tempo, drums_alone = piece.tempo, piece.instruments == ["drums"]
    melodic = bool(piece.leads)
    true = {
        tempo if tempo != "medium" else "medium tempo": True,
        # The words for modes say C. A bass alone may not show its mode.
        piece.mode: melodic and not piece.tonic,
        piece.texture: melodic and piece.texture != "melody",
        piece.register: melodic and piece.register != "middle",
        piece.density: piece.density != "medium",
        piece.drums or "": drums_alone,
        "happy": piece.mode == "major" and tempo != "slow" and melodic,
        "sad": piece.mode == "minor" and tempo == "slow" and melodic,
        "calm": tempo == "slow" and piece.density != "dense" and piece.drums != "loud",
        "epic": piece.mode == "minor" and piece.drums == "loud" and melodic,
        "energetic": tempo == "fast" and piece.density != "sparse",
        "dark": piece.mode == "minor" and piece.register == "low" and melodic,
        "bright": piece.mode == "major" and piece.register == "high" and melodic,
    }  # fmt: skip
    return [name for name, is_true in true.items() if is_true]


def write_caption(piece: Piece, rng: Random) -> str:
    """A caption that names some of the traits of the piece, and nothing false."""
    language = 0 if rng.random() < 0.8 else 1
    true = qualities(piece)
    detail = rng.choice((0.2, 0.6, 0.9))
    named = [name for name in true if rng.random() < detail]
    words = [rng.choice(QUALITIES[name][language]) for name in named]
    if rng.random() < 0.2:
        words.append(f"{_near(piece.beats_per_minute, rng)} bpm")
    rng.shuffle(words)
    first, *others = [_name(each, piece, language, rng) for each in piece.instruments]
    others = [other for other in others if rng.random() < 0.95]
    form = rng.random()
    if form < 0.3:  # a list
        parts = [first, *others, *words]
        if rng.random() < 0.5:
            rng.shuffle(parts)
        return rng.choice([", ", " "]).join(parts)
    cut = rng.randint(0, len(words))
    before, after = words[:cut], words[cut:]
    noun = rng.choice(NOUNS[language])
    parts = rng.choices([[first], [first, noun], [noun]], weights=[12, 7, 1])[0]
    if language == 0:
        parts = [*before, *parts]
        links = ("with", "and", "with", "over")
    else:
        parts = [*parts, *before]
        links = ("avec", "et", "avec", "sur")
    if others:
        separator = (" and ", " et ")[language] if rng.random() < 0.7 else ", "
        parts += [rng.choice(links), separator.join(others)]
    sentence = " ".join([*parts, *after])
    for _ in range(rng.choice((0, 0, 1, 2))):
        sentence = _insert(sentence, rng.choice(FILLERS[language]), rng)
    return sentence


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


def _insert(sentence: str, word: str, rng: Random) -> str:
    words = sentence.split(" ")
    words.insert(rng.randint(0, len(words)), word)
    return " ".join(words)
