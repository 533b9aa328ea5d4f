"""What the language model is asked in training is what it is asked at generation."""

from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from training import language_model
from training.checkpoint import write_text_encoder
from training.language_model import GIVEN, Batch
from training.music import MOMENTS
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
    songs = Batch(codes, torch.tensor([True, False]), ["slow piano", "fast drums"])

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


def test_the_learning_rate_rises_stays_and_falls() -> None:
    rates = [language_model.learning_rate(step) for step in range(
        language_model.STEPS + language_model.GUIDED_STEPS
    )]  # fmt: skip
    assert rates[0] < rates[50] < rates[language_model.WARMUP] == language_model.PEAK
    assert rates[language_model.HOLD - 1] == language_model.PEAK
    assert rates[language_model.HOLD :] == sorted(rates[language_model.HOLD :], reverse=True)
    assert rates[-1] < 0.01 * language_model.PEAK + language_model.LAST


def test_how_a_song_goes_on_from_its_middle_is_learnt_but_not_to_begin_there() -> None:
    generator = torch.Generator().manual_seed(0)
    pattern = torch.randint(TINY.codes, (1, 4, GIVEN + 51), generator=generator)
    logits = torch.randn(1, 4, GIVEN + 50, TINY.codes, generator=generator, requires_grad=True)
    for begins in (True, False):
        loss = language_model.weighed(logits, pattern, torch.tensor([begins]))
        learns = torch.autograd.grad(loss, logits)[0].abs().sum((0, 3)) > 0
        for k in range(4):  # codebook k comes k steps late
            late = learns[k, k:]
            assert late[GIVEN:].all() and late[:GIVEN].all() == late[:GIVEN].any() == begins


def test_the_first_frame_of_a_song_counts_most(codes: Tensor) -> None:
    pattern = codes[:1]
    logits = torch.zeros(1, 4, pattern.shape[-1] - 1, TINY.codes, requires_grad=True)
    loss = language_model.weighed(logits, pattern, torch.tensor([True]))
    pull = torch.autograd.grad(loss, logits)[0].abs().sum((0, 1, 3)).tolist()
    assert pull == sorted(pull, reverse=True) and pull[0] > 10 * pull[-1]


def test_excerpts_are_what_their_song_is_from_where_they_begin() -> None:
    lead = torch.arange(3_000)
    silence = TINY.codes - MOMENTS + lead % MOMENTS
    songs = torch.stack([silence, lead, lead, silence]).expand(2, 4, -1)
    batch = language_model.batch(songs, 60, GIVEN + 50, Random(0))
    assert batch.excerpts.shape == (60, 4, GIVEN + 50) and len(batch.captions) == 60
    starts = batch.excerpts[:, 1, 0]
    assert torch.equal(batch.begins, starts == 0) and 20 < batch.begins.sum() < 60
    whole = torch.stack([songs[0, :, at : at + GIVEN + 50] for at in starts.tolist()])
    assert torch.equal(batch.excerpts[:, 1:3], whole[:, 1:3])
    assert torch.equal(batch.excerpts[..., GIVEN:], whole[..., GIVEN:])
    unclocked = (batch.excerpts != whole).any(2).any(1)
    assert 0 < unclocked.sum() < (~batch.begins).sum() and not unclocked[batch.begins].any()
    assert not batch.excerpts[unclocked][:, [0, 3], :GIVEN].any()
