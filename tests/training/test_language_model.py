"""Training predicts the same pattern from the same inputs as generation."""

from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from training import language_model
from training.batch import TrainingBatch
from training.structure import TINY


@pytest.fixture(scope="module")
def codes() -> Tensor:
    return torch.randint(TINY.vocab_size, (2, 4, 30), generator=torch.Generator().manual_seed(0))


def test_the_pattern_is_audiocrafts(lm: Any, codes: Tensor) -> None:
    pattern = lm.pattern_provider.get_pattern(codes.shape[-1])
    expected, _, _ = pattern.build_pattern_sequence(
        codes, lm.special_token_id, keep_only_valid_steps=True
    )
    assert torch.equal(language_model.delayed(codes, lm.special_token_id), expected)


def test_the_logits_are_audiocrafts(lm: Any, codes: Tensor) -> None:
    condition = language_model.encode_texts(lm, ["slow piano", "fast drums"])
    pattern = language_model.delayed(codes, lm.special_token_id)
    with torch.inference_mode():
        ours = lm(pattern[..., :-1], [], condition)
        theirs = lm.compute_predictions(codes, [], condition)
    each, valid = language_model.cross_entropy(ours, pattern)
    expected = torch.nn.functional.cross_entropy(
        theirs.logits.flatten(0, 2), codes.flatten(), reduction="none"
    ).view_as(codes)
    for k in range(4):  # codebook k is delayed by k steps
        delayed = slice(k, codes.shape[-1])
        assert valid[:, k].sum() == 2 * (codes.shape[-1] - k)
        torch.testing.assert_close(each[:, k, delayed], expected[:, k, : codes.shape[-1] - k])


def test_a_longer_text_in_the_batch_changes_nothing(lm: Any, codes: Tensor) -> None:
    inputs = language_model.delayed(codes[:1], lm.special_token_id)[..., :-1]
    with torch.inference_mode():
        alone = lm(inputs, [], language_model.encode_texts(lm, ["piano"]))
        texts = language_model.encode_texts(lm, ["piano", "slow sad strings in a minor key"])
        together = lm(inputs.repeat(2, 1, 1), [], texts)
    torch.testing.assert_close(alone[0], together[0], atol=1e-4, rtol=1e-4)


def test_an_empty_text_is_audiocrafts_unconditional_text(lm: Any) -> None:
    embeddings, _ = language_model.encode_texts(lm, ["", "piano"])["description"]
    assert not embeddings[0].any() and embeddings[1].any()


def test_a_guidance_factor_of_one_changes_nothing(lm: Any, codes: Tensor) -> None:
    batch = TrainingBatch(codes, torch.ones(2, 4, 30), ["slow piano", "fast drums"])

    class One(Random):
        def uniform(self, a: float, b: float) -> float:
            return 1.0

        def random(self) -> float:
            return 1.0

    with torch.inference_mode():
        torch.manual_seed(0)
        plain = language_model.plain_loss(lm, batch, One())
        torch.manual_seed(0)
        guided = language_model.guided_loss(lm, batch, One())
    torch.testing.assert_close(plain, guided)


def test_the_learning_rate_warms_up_and_decays_twice() -> None:
    rates = [language_model.learning_rate(step) for step in range(language_model.STEPS)]
    bars = language_model.BARS_FROM
    assert rates[0] < rates[50] < rates[language_model.WARMUP] == language_model.PEAK_RATE
    assert rates[language_model.DECAY_FROM - 1] == language_model.PEAK_RATE
    assert rates[language_model.DECAY_FROM : bars] == sorted(
        rates[language_model.DECAY_FROM : bars], reverse=True
    )
    assert rates[bars] == language_model.BARS_PEAK_RATE
    assert rates[bars:] == sorted(rates[bars:], reverse=True)
    for last in (rates[bars - 1], rates[-1]):
        assert last < 0.01 * language_model.PEAK_RATE + language_model.FINAL_RATE


def test_the_weight_of_a_code_is_that_of_its_frame() -> None:
    """Codebook k is delayed by k steps."""
    generator = torch.Generator().manual_seed(0)
    pattern = torch.randint(TINY.vocab_size, (1, 4, 51), generator=generator)
    logits = torch.zeros(1, 4, 50, TINY.vocab_size, requires_grad=True)
    weights = torch.rand(1, 4, 50, generator=generator)
    loss = language_model.weighted_loss(logits, pattern, weights)
    gradient = torch.autograd.grad(loss, logits)[0].abs().sum((0, 3))
    for k in range(4):
        torch.testing.assert_close(
            gradient[k, k:] / gradient[0, 0], weights[0, k, : 50 - k] / weights[0, 0, 0]
        )
