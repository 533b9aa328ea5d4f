"""Writes the tokenizer of a text encoder: of T5's kind, trained on captions."""

import io
from pathlib import Path
from random import Random
from typing import Any

import sentencepiece
from transformers import T5Tokenizer
from transformers.utils import sentencepiece_model_pb2_new

from training.caption import write_caption
from training.music import invent

# Characters for words that no caption has.
ALPHABET = sorted({chr(code).lower() for code in range(ord("!"), ord("~") + 1)})
ALPHABET += "àâäçéèêëîïôöùûüßñ"
CAPTIONS = 20_000
MAX_TOKENS = 700


def write_tokenizer(folder: Path) -> int:
    """Writes `spiece.model` and `tokenizer.json`, one tokenizer twice; returns its vocabulary size.

    It ignores case. A character outside the alphabet becomes the unknown token, so every text has
    an encoding.
    """
    rng = Random("captions")
    captions = (write_caption(invent(rng), rng) for _ in range(CAPTIONS))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=captions,
        model_writer=model,
        model_type="unigram",
        vocab_size=MAX_TOKENS,
        hard_vocab_limit=False,
        required_chars="".join(ALPHABET),
        normalization_rule_name="nmt_nfkc_cf",
        num_threads=1,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(model.getvalue())
    # transformers needs a newer protobuf to read spiece.model than Triton's client allows.
    messages: Any = sentencepiece_model_pb2_new
    parsed = messages.ModelProto.FromString(model.getvalue())
    tokenizer = T5Tokenizer(
        [(piece.piece, piece.score) for piece in parsed.pieces],
        _spm_precompiled_charsmap=parsed.normalizer_spec.precompiled_charsmap,
    )
    tokenizer.save_pretrained(folder)
    return len(tokenizer)
