"""Writes random captions of a piece, in English or French.

The words are the vocabulary of musicgen-tiny. Each caption draws its traits, words and word order.
"""

import unicodedata
from collections.abc import Collection
from random import Random
from typing import NamedTuple

from training.music import Instrument, Piece


class Words(NamedTuple):
    english: tuple[str, ...]
    french: tuple[str, ...]


INSTRUMENTS: dict[Instrument, Words] = {
    "piano": Words(
        ("piano", "piano", "piano", "keyboard", "grand piano", "pianist", "pianos"),
        ("piano", "piano", "clavier", "pianiste"),
    ),
    "organ": Words(
        ("organ", "organ", "church organ", "pipe organ", "organist", "organs"),
        ("orgue", "orgue", "organiste", "orgues"),
    ),
    "guitar": Words(
        ("guitar", "guitar", "guitar", "acoustic guitar", "guitarist", "guitars", "ukulele"),
        ("guitare", "guitare", "guitare acoustique", "guitariste", "guitares"),
    ),
    "bass": Words(
        ("bass", "bass", "bass", "bass guitar", "bass line", "bassline", "double bass", "bassist"),
        ("basse", "basse", "ligne de basse", "contrebasse", "bassiste"),
    ),
    "strings": Words(
        (
            "strings",
            "strings",
            "violins",
            "violin",
            "string orchestra",
            "cello",
            "cellos",
            "viola",
            "string section",
            "string quartet",
            "string ensemble",
            "orchestra",
            "fiddle",
            "violinist",
        ),
        (
            "cordes",
            "violons",
            "violon",
            "violoncelle",
            "orchestre",
            "quatuor à cordes",
            "violoniste",
        ),
    ),
    "brass": Words(
        (
            "brass",
            "brass",
            "trumpet",
            "horns",
            "horn",
            "trumpets",
            "trombone",
            "trombones",
            "brass band",
            "brass section",
            "tuba",
            "french horn",
            "fanfare",
            "bugle",
            "trumpeter",
        ),
        ("cuivres", "trompette", "trompettes", "trombone", "cor", "fanfare"),
    ),
    "flute": Words(
        (
            "flute",
            "flute",
            "flute",
            "recorder",
            "flutes",
            "flutist",
            "flautist",
            "piccolo",
            "pan flute",
            "whistle",
            "woodwind",
        ),
        ("flûte", "flûte", "flûtes", "flûtiste", "flûte à bec", "piccolo"),
    ),
    "synth": Words(
        (
            "synth",
            "synth",
            "synthesizer",
            "electronic",
            "synths",
            "synthesiser",
            "synthesizers",
            "electronica",
            "electro",
            "chiptune",
        ),
        ("synthé", "synthétiseur", "synthétiseurs", "électronique"),
    ),
    "drums": Words(
        (
            "drums",
            "drums",
            "drums",
            "percussion",
            "beat",
            "drum",
            "drum kit",
            "drum set",
            "drummer",
            "drumming",
            "drumbeat",
            "beats",
            "percussionist",
        ),
        ("batterie", "batterie", "percussions", "percussion", "batteur", "tambour", "tambours"),
    ),
}
# The words for each trait of a piece.
QUALITIES: dict[str, Words] = {
    "slow": Words(
        ("slow", "slow", "slow", "slow tempo", "unhurried", "slowly", "slow-paced", "leisurely",
         "adagio", "slow speed", "lento"),
        ("lent", "lente", "lentement", "tempo lent", "rythme lent"),
    ),
    "medium tempo": Words(
        ("medium tempo", "moderate", "walking pace", "mid-tempo", "moderate tempo", "medium speed",
         "andante", "moderately"),
        ("modéré", "modérée", "tempo modéré", "tempo moyen"),
    ),
    "fast": Words(
        ("fast", "fast", "fast", "fast tempo", "quick", "rapid", "quickly", "fast-paced", "speedy",
         "rapidly", "high speed", "up-tempo", "presto", "hurried", "rushing"),
        ("rapide", "rapide", "vite", "rapidement", "tempo rapide", "rythme rapide"),
    ),
    "major": Words(
        ("major", "in C major", "in a major key", "major key", "C major", "major scale"),
        ("majeur", "en do majeur", "majeure", "mode majeur", "gamme majeure"),
    ),
    "minor": Words(
        ("minor", "in C minor", "in a minor key", "minor key", "C minor", "minor scale"),
        ("mineur", "en do mineur", "mineure", "mode mineur", "gamme mineure"),
    ),
    "chords": Words(("chords", "in chords", "harmonies"), ("accords", "en accords")),
    "arpeggio": Words(("arpeggio", "arpeggios", "broken chords"), ("arpège", "arpèges")),
    "low": Words(("low", "low", "deep", "low-pitched"), ("grave", "graves")),
    "high": Words(("high", "high", "high-pitched", "shrill"), ("aigu", "aiguë")),
    "sparse": Words(("sparse", "simple", "minimal", "few notes"), ("simple", "épuré", "épurée")),
    "dense": Words(("dense", "busy", "many notes", "rich"), ("dense", "chargé", "chargée")),
    "soft": Words(("soft", "quiet", "gentle", "softly", "quietly"), ("doux", "douce", "doucement")),
    "loud": Words(
        ("loud", "strong", "powerful", "loudly", "heavy", "hard", "big"),
        ("fort", "forte", "puissant", "puissante"),
    ),
    "happy": Words(
        ("happy", "happy", "joyful", "cheerful", "playful", "merry", "joyous", "fun", "cheery",
         "jolly", "feel-good"),
        ("joyeux", "joyeuse", "gai", "gaie", "heureux", "heureuse"),
    ),
    "sad": Words(
        ("sad", "sad", "melancholic", "mournful", "sorrowful", "melancholy", "unhappy", "sadly",
         "tearful", "lonely"),
        ("triste", "mélancolique", "tristes", "malheureux"),
    ),
    "calm": Words(
        ("calm", "calm", "peaceful", "relaxing", "dreamy", "relaxed", "soothing", "tranquil",
         "mellow"),
        ("calme", "paisible", "tranquille", "reposant"),
    ),
    "epic": Words(("epic", "epic", "heroic", "cinematic", "dramatic"), ("épique", "héroïque")),
    "energetic": Words(
        ("energetic", "lively", "driving", "upbeat", "exciting", "danceable"),
        ("énergique", "vif", "vive", "dynamique"),
    ),
    "dark": Words(("dark", "gloomy", "mysterious", "ominous", "sinister"), ("sombre", "sinistre")),
    "bright": Words(
        ("bright", "light", "sunny"), ("lumineux", "lumineuse", "clair", "claire", "ensoleillé")
    ),
}  # fmt: skip
NOUNS = Words(
    ("music", "piece", "tune", "song", "track", "melody", "solo", "theme", "loop", "number"),
    ("musique", "morceau", "mélodie", "chanson", "air", "thème"),
)
# How a sentence begins, how it joins the first instrument to a noun and to the other instruments,
# how a lone instrument plays, and how a word for a trait comes at the end.
OPENERS = Words(
    ("play", "play me", "give me", "I want", "I want to hear", "I would like", "I'd like to hear",
     "let me hear", "let us hear", "can you make", "could you play", "please play", "make",
     "make me", "compose", "write", "create", "generate", "we need", "here is", "this is",
     "there is", "imagine", "how about", "nothing but", "only", "just", "the sound of", "now"),
    ("joue", "joue-moi", "je veux", "je voudrais", "je voudrais entendre", "j'aimerais",
     "donne-moi", "fais-moi", "fais", "peux-tu jouer", "voici", "c'est", "il y a", "seulement",
     "rien que", "compose", "crée", "le son de", "on entend"),
)  # fmt: skip
OF_INSTRUMENTS = Words(
    ("with", "with", "of", "for", "on", "featuring", "played by", "played on", "by", "that has"),
    ("avec", "de", "pour", "à", "au", "joué par", "jouée par", "qui a"),
)
LINKS = Words(
    ("with", "with", "with", "and", "and", "over", "over", "plus", "together with", "along with",
     "backed by", "accompanied by", "playing over", "plays over", "on top of", "as well as", "&",
     "playing with", "next to", "joined by", "above", "then also"),
    ("avec", "avec", "avec", "et", "et", "sur", "sur", "accompagné de", "accompagnée par",
     "ainsi que", "plus", "qui joue avec", "qui joue sur", "au-dessus de"),
)  # fmt: skip
ALONE = Words(
    ("alone", "all alone", "by itself", "on its own", "solo", "unaccompanied", "and nothing else",
     "only"),
    ("seul", "seule", "tout seul", "toute seule", "en solo", "sans rien d'autre"),
)  # fmt: skip
MANNERS = Words(
    ("make it", "and make it", "keep it", "it is", "it should be", "which is", "that sounds",
     "that feels", "played", "at a", "something", "very", "really", "quite", "so"),
    ("et que ce soit", "c'est", "qui est", "de façon", "à un", "très", "vraiment", "assez"),
)  # fmt: skip
ARTICLES = Words(
    ("a", "a", "an", "the", "the", "some", "one", "my", "someone on"),
    ("un", "une", "le", "la", "les", "des", "du", "de la", "l'"),
)
# Words without meaning, anywhere in a caption, so that the model learns to ignore them.
FILLERS = Words(
    ("a", "the", "some", "of", "for", "nice", "please", "beautiful", "instrumental", "new", "me",
     "us", "you", "someone", "we", "here", "today", "tonight", "in", "on", "to", "at", "that",
     "has", "good", "great", "little", "old", "whole", "time", "background", "style", "sound",
     "sounds", "mood", "lovely", "short", "long", "dance", "film", "game", "night", "morning",
     "rain", "sea", "forest", "city", "garden", "children", "friends", "love", "party", "dream",
     "walk", "story", "summer", "winter", "studio", "ambient", "jazz", "rock", "folk", "classical",
     "pop", "house", "baroque", "waltz", "march", "ballad"),
    ("un", "une", "le", "la", "de", "pour", "beau", "belle", "joli", "instrumental", "moi", "nous",
     "ici", "ce soir", "dans", "petit", "petite", "grand", "bon", "bonne", "nuit", "matin", "pluie",
     "mer", "forêt", "ville", "jardin", "enfants", "amis", "amour", "fête", "danse", "film", "jeu",
     "rêve", "histoire", "été", "hiver", "valse", "ballade", "s'il te plaît"),
)  # fmt: skip
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
