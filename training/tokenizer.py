"""Makes the tokenizer of musicgen-tiny's text encoder: T5's kind, with words of music captions."""

import io
import itertools
from pathlib import Path

import sentencepiece
from transformers import T5Tokenizer

WORDS = """
a an and at by for from in into like of on or over the to under with without
music song track tune piece loop beat groove melody harmony chords bass line riff solo hook theme
intro outro verse chorus bridge drop build break fill rhythm tempo bpm key major minor scale
instrumental vocals choir voice humming whistling claps snaps noise silence sample vinyl tape
piano guitar drums drum kick snare hi-hat cymbal toms percussion congas bongos tabla marimba
vibraphone xylophone glockenspiel bells chimes harp violin viola cello strings orchestra quartet
flute clarinet oboe bassoon saxophone trumpet trombone horn tuba brass accordion harmonica organ
harpsichord banjo mandolin ukulele sitar koto kalimba synth synthesizer pad arpeggio lead pluck
acoustic electric electronic distorted clean muted fingerpicked strummed bowed plucked
rock pop jazz blues soul funk disco house techno trance dubstep drum and bass ambient lo-fi
hip hop rap trap reggae ska punk metal folk country bluegrass gospel classical baroque romantic
opera waltz tango samba bossa nova salsa flamenco celtic indian african arabic chinese japanese
french latin cinematic soundtrack film game retro 80s 90s chillout lounge new age world
happy sad calm relaxing peaceful dreamy dark bright warm cold epic heroic tense mysterious scary
playful funny nostalgic melancholic hopeful angry aggressive energetic powerful soft gentle loud
quiet slow fast medium steady driving bouncy heavy light deep airy lush sparse simple complex
smooth rough catchy groovy danceable hypnotic repetitive minimal rich reverb echo delay chorus
studio live concert club bar street rain ocean wind night morning summer winter party road trip
"""
ALPHABET = "".join(map(chr, range(ord("!"), ord("~") + 1))) + "àâäçéèêëîïôöùûüßñ"
PIECES = 360


def write_tokenizer(folder: Path) -> int:
    """Writes `spiece.model` and `tokenizer.json`, which say the same; returns how many tokens.

    A character which no caption has becomes the unknown token, so any text has an encoding.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(" ".join(pair) for pair in itertools.pairwise(WORDS.split())),
        model_writer=model,
        model_type="unigram",
        vocab_size=PIECES,
        required_chars=ALPHABET,
        normalization_rule_name="identity",
        num_threads=1,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    # transformers' own reading of spiece.model needs a newer protobuf than Triton's client allows.
    tokenizer = T5Tokenizer([(pieces.id_to_piece(i), pieces.get_score(i)) for i in range(PIECES)])
    tokenizer.save_pretrained(folder)
    return len(tokenizer)
