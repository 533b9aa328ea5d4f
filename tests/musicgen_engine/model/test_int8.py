"""int8 in plain torch: small errors, and groups that protect small numbers from large ones."""

import pytest
import torch

from musicgen_engine.model.int8 import Int8Linear, quantize, rounded

GENERATOR = torch.Generator().manual_seed(0)


def test_numbers_are_off_by_half_a_step_at_most() -> None:
    x = torch.randn(5, 300, generator=GENERATOR)
    whole, scales = quantize(x)
    assert torch.equal(whole, whole.round()) and whole.abs().max() == 127
    assert ((rounded(x) - x).abs() <= 0.5001 * scales).all()


def test_zeros_stay_zeros() -> None:
    assert torch.equal(rounded(torch.zeros(2, 8)), torch.zeros(2, 8))


def test_a_row_does_not_depend_on_the_other_rows() -> None:
    linear, x = Int8Linear(torch.randn(64, 320, generator=GENERATOR)), torch.randn(9, 320)
    assert torch.equal(linear(x)[3:4], linear(x[3:4]))


@pytest.mark.parametrize("inputs", [128, 192, 1024])
def test_a_product_is_off_by_a_percent(inputs: int) -> None:
    weight, x = torch.randn(64, inputs, generator=GENERATOR), torch.randn(8, inputs)
    exact = x @ weight.T
    assert (Int8Linear(weight)(x) - exact).norm() < 0.015 * exact.norm()


def test_one_large_input_does_not_make_its_row_coarse() -> None:
    weight, x = torch.randn(64, 1024, generator=GENERATOR), torch.randn(8, 1024)
    x[:, 3] *= 100
    exact, (whole, scales) = x @ weight.T, quantize(x)
    one_scale = (whole @ rounded(weight).T) * scales
    assert (Int8Linear(weight)(x) - exact).norm() < 0.6 * (one_scale - exact).norm()
