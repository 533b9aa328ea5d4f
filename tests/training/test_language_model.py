"""What the language model is asked in training is what it is asked at generation."""

from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from training import language_model
from training.batch import Batch
from training.checkpoint import write_text_encoder
from training.structure import TINY

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("lm")
    write_text_encoder(folder, TINY)
    return language_model.build(folder, CPU).eval()


@pytest.fixture(scope="module")
def codes() -> Tensor:
    return torch.randint(TINY.codes, (2, 4, 30), generator=torch.Generator().manual_seed(0))


def test_the_pattern_is_audiocrafts(lm: Any, codes: Tensor) -> None:
    pattern = lm.pattern_provider.get_pattern(codes.shape[-1])
    expected, _, _ = pattern.build_pattern_sequence(
        codes, lm.special_token_id, keep_only_valid_steps=True
    )
    assert torch.equal(language_model.delayed(codes, lm.special_token_id), expected)


def test_the_logits_are_those_of_audiocrafts_own_predictions(lm: Any, codes: Tensor) -> None:
    condition = language_model.texts(lm, ["slow piano", "fast drums"])
    pattern = language_model.delayed(codes, lm.special_token_id)
    with torch.inference_mode():
        ours = lm(pattern[..., :-1], [], condition)
        theirs = lm.compute_predictions(codes, [], condition)
    each, valid = language_model.cross_entropy(ours, pattern)
    expected = torch.nn.functional.cross_entropy(
        theirs.logits.flatten(0, 2), codes.flatten(), reduction="none"
    ).view_as(codes)
    for k in range(4):  # codebook k comes k steps late
        late = slice(k, codes.shape[-1])
        assert valid[:, k].sum() == 2 * (codes.shape[-1] - k)
        torch.testing.assert_close(each[:, k, late], expected[:, k, : codes.shape[-1] - k])


def test_a_text_counts_the_same_beside_a_longer_one(lm: Any, codes: Tensor) -> None:
    heard = language_model.delayed(codes[:1], lm.special_token_id)[..., :-1]
    with torch.inference_mode():
        alone = lm(heard, [], language_model.texts(lm, ["piano"]))
        texts = language_model.texts(lm, ["piano", "slow sad strings in a minor key"])
        beside = lm(heard.repeat(2, 1, 1), [], texts)
    torch.testing.assert_close(alone[0], beside[0], atol=1e-4, rtol=1e-4)


def test_no_text_is_audiocrafts_no_text(lm: Any) -> None:
    embeddings, _ = language_model.texts(lm, ["", "piano"])["description"]
    assert not embeddings[0].any() and embeddings[1].any()


def test_guided_by_a_factor_of_one_is_not_guided(lm: Any, codes: Tensor) -> None:
    songs = Batch(codes, torch.ones(2, 30), ["slow piano", "fast drums"])

    class One(Random):
        def uniform(self, a: float, b: float) -> float:
            return 1.0

        def random(self) -> float:
            return 1.0

    with torch.inference_mode():
        torch.manual_seed(0)
        plain = language_model.plain_loss(lm, songs, One())
        torch.manual_seed(0)
        guided = language_model.guided_loss(lm, songs, One())
    torch.testing.assert_close(plain, guided)


def test_the_learning_rate_rises_stays_and_falls_and_once_more_for_the_bars() -> None:
    rates = [language_model.learning_rate(step) for step in range(language_model.STEPS)]
    bars = language_model.BARS
    assert rates[0] < rates[50] < rates[language_model.WARMUP] == language_model.PEAK
    assert rates[language_model.HOLD - 1] == language_model.PEAK
    assert rates[language_model.HOLD : bars] == sorted(
        rates[language_model.HOLD : bars], reverse=True
    )
    assert rates[bars] == language_model.BARS_PEAK
    assert rates[bars:] == sorted(rates[bars:], reverse=True)
    for last in (rates[bars - 1], rates[-1]):
        assert last < 0.01 * language_model.PEAK + language_model.LAST


def test_a_frame_counts_the_same_in_each_codebook() -> None:
    """Codebook k comes k steps late."""
    generator = torch.Generator().manual_seed(0)
    pattern = torch.randint(TINY.codes, (1, 4, 51), generator=generator)
    logits = torch.zeros(1, 4, 50, TINY.codes, requires_grad=True)
    weights = torch.rand(1, 50, generator=generator)
    loss = language_model.weighed(logits, pattern, weights)
    pull = torch.autograd.grad(loss, logits)[0].abs().sum((0, 3))
    for k in range(4):
        torch.testing.assert_close(
            pull[k, k:] / pull[0, 0], (weights / weights[:, :1])[0, : 50 - k]
        )
