"""The words of captions in English and French: the vocabulary of musicgen-tiny.

A word that stands twice is drawn twice as often.
"""

from typing import NamedTuple

from training.music import Instrument


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
