"""The tokenizer knows the words of captions, whatever their case, and gets by with any other."""

from pathlib import Path
from random import Random
from typing import Any

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
def tokenizer(folder: Path) -> Any:
    return T5Tokenizer.from_pretrained(str(folder))  # as audiocraft loads it


def pieces(tokenizer: Any, text: str) -> list[str]:
    names: list[str] = tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)
    return names


def test_words_of_captions_are_whole(tokenizer: Any) -> None:
    assert pieces(tokenizer, "slow sad piano, soft drums") == [
        "▁slow", "▁sad", "▁piano", ",", "▁soft", "▁drums", "</s>"
    ]  # fmt: skip


def test_capitals_make_no_difference(tokenizer: Any) -> None:
    assert pieces(tokenizer, "FLÛTE  Rapide") == pieces(tokenizer, "flûte rapide")


@pytest.mark.parametrize("text", ["ピアノ", "🎹", "saxophone", "a" * 2_000, "%#!"])
def test_any_text_has_an_encoding(tokenizer: Any, text: str) -> None:
    assert 2 <= len(tokenizer(text).input_ids) <= len(text) + 2


def test_both_files_say_the_same(tokenizer: Any, folder: Path) -> None:
    other = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    rng = Random(0)
    for _ in range(500):
        caption = describe(invent(rng), rng)
        assert tokenizer(caption).input_ids == [*other.encode(caption), other.eos_id()]
