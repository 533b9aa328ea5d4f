"""The tokenizer has a token for each word of captions, ignores case, and encodes any text."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
import sentencepiece
from transformers import T5Tokenizer

from training.caption import write_caption
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


def tokens(tokenizer: Any, text: str) -> list[str]:
    names: list[str] = tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)
    return names


def test_each_word_of_captions_is_one_token(tokenizer: Any) -> None:
    assert tokens(tokenizer, "slow sad piano, soft drums") == [
        "▁slow", "▁sad", "▁piano", ",", "▁soft", "▁drums", "</s>"
    ]  # fmt: skip


def test_case_makes_no_difference(tokenizer: Any) -> None:
    assert tokens(tokenizer, "FLÛTE  Rapide") == tokens(tokenizer, "flûte rapide")


@pytest.mark.parametrize("text", ["ピアノ", "🎹", "saxophone", "a" * 2_000, "%#!"])
def test_any_text_has_an_encoding(tokenizer: Any, text: str) -> None:
    assert 2 <= len(tokenizer(text).input_ids) <= len(text) + 2


def test_both_files_hold_the_same_tokenizer(tokenizer: Any, folder: Path) -> None:
    other = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    rng = Random(0)
    for _ in range(500):
        caption = write_caption(invent(rng), rng)
        assert tokenizer(caption).input_ids == [*other.encode(caption), other.eos_id()]
