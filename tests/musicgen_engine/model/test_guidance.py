"""The logits of a sequence's guidance rows become one."""

import pytest
import torch
from torch import Tensor

from musicgen_engine.model.guidance import CLASSIFIER_FREE, Guidance, combine

CODEBOOKS, VOCAB_SIZE = 4, 65


def logits(rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(rows)
    return torch.randn(rows, CODEBOOKS, VOCAB_SIZE, generator=generator)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0, 7.3, 20.0])
def test_two_rows_are_classifier_free_guidance_to_the_bit(scale: float) -> None:
    """audiocraft writes it as uncond + (cond - uncond) * cfg_coef."""
    conditional, unconditional = logits(2)
    guided = combine(logits(2), [2], torch.tensor([[scale]]))
    assert torch.equal(guided[0], unconditional + (conditional - unconditional) * scale)


def test_three_rows_are_pulled_in_two_directions() -> None:
    first, unconditional, second = logits(3).double()
    guided = combine(logits(3), [3], torch.tensor([[0.9, 2.1]]))
    expected = unconditional + (first - unconditional) * 0.9 + (second - unconditional) * 2.1
    assert torch.allclose(guided[0].double(), expected, rtol=0, atol=1e-5)


def test_equal_rows_need_no_guidance() -> None:
    row = logits(1)
    assert torch.equal(combine(row.repeat(3, 1, 1), [3], torch.tensor([[3.0, 5.0]])), row)


@pytest.mark.parametrize("rows", [[2], [2, 2, 2], [2, 3], [3, 2, 2], [5, 3, 2], [4, 2]])
def test_a_sequence_is_the_same_to_the_bit_in_any_batch(rows: list[int]) -> None:
    scales = torch.linspace(0.5, 4, len(rows) * (max(rows) - 1)).view(len(rows), -1)
    parts = torch.split(logits(sum(rows)), rows)
    alone = [
        combine(part, [count], scale[None, : count - 1])
        for part, count, scale in zip(parts, rows, scales, strict=True)
    ]
    assert torch.equal(combine(logits(sum(rows)), rows, scales), torch.cat(alone))


def test_scales_of_rows_that_are_not_there_do_not_count() -> None:
    wide = torch.tensor([[3.0, 99.0], [2.0, 99.0]])
    narrow = torch.tensor([[3.0], [2.0]])
    assert torch.equal(combine(logits(4), [2, 2], wide), combine(logits(4), [2, 2], narrow))


def test_a_guidance_has_one_row_more_than_weights() -> None:
    assert CLASSIFIER_FREE.rows == 2
    assert Guidance((0.3, 0.7)).rows == 3
