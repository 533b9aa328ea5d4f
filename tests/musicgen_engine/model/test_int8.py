"""int8 in plain torch: small errors, and groups that protect small numbers from large ones."""

import pytest
import torch

from musicgen_engine.model.int8 import Int8Linear, rounded

GENERATOR = torch.Generator().manual_seed(0)


def test_a_number_is_off_by_half_a_step_at_most() -> None:
    x = torch.randn(5, 300, generator=GENERATOR)
    steps = x.abs().amax(dim=1, keepdim=True) / 127
    assert ((rounded(x) - x).abs() <= 0.5001 * steps).all()
    assert all(len(row.unique()) <= 255 for row in rounded(x))


def test_zeros_stay_zeros() -> None:
    assert torch.equal(rounded(torch.zeros(2, 8)), torch.zeros(2, 8))


@pytest.mark.parametrize("inputs", [128, 192, 1024])
def test_a_product_is_off_by_a_percent(inputs: int) -> None:
    weight, x = torch.randn(64, inputs, generator=GENERATOR), torch.randn(8, inputs)
    exact = x @ weight.T
    assert (Int8Linear(weight)(x) - exact).norm() < 0.015 * exact.norm()


def test_one_large_input_does_not_make_its_row_coarse() -> None:
    weight, x = torch.randn(64, 1024, generator=GENERATOR), torch.randn(8, 1024)
    x[:, 3] *= 100
    exact, one_group = x @ weight.T, rounded(x) @ rounded(weight).T
    assert (Int8Linear(weight)(x) - exact).norm() < 0.6 * (one_group - exact).norm()
