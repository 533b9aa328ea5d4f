"""The tokenizer knows the words of captions, whatever their case, and gets by with any other."""

from pathlib import Path
from random import Random

import pytest
import sentencepiece
from transformers import T5Tokenizer

from training.caption import describe
from training.music import invent
from training.tokenizer import write_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> T5Tokenizer:
    return T5Tokenizer.from_pretrained(str(folder))  # as audiocraft loads it


def pieces(tokenizer: T5Tokenizer, text: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)  # type: ignore[no-any-return]


def test_words_of_captions_are_whole(tokenizer: T5Tokenizer) -> None:
    assert pieces(tokenizer, "slow sad piano, soft drums") == [
        "▁slow", "▁sad", "▁piano", ",", "▁soft", "▁drums", "</s>"
    ]  # fmt: skip


def test_capitals_make_no_difference(tokenizer: T5Tokenizer) -> None:
    assert pieces(tokenizer, "FLÛTE  Rapide") == pieces(tokenizer, "flûte rapide")


@pytest.mark.parametrize("text", ["ピアノ", "🎹", "saxophone", "a" * 2_000, "%#!"])
def test_any_text_has_an_encoding(tokenizer: T5Tokenizer, text: str) -> None:
    assert 2 <= len(tokenizer(text).input_ids) <= len(text) + 2


def test_both_files_say_the_same(tokenizer: T5Tokenizer, folder: Path) -> None:
    other = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    rng = Random(0)
    for _ in range(500):
        caption = describe(invent(rng), rng)
        assert tokenizer(caption).input_ids == [*other.encode(caption), other.eos_id()]
