import pytest
import torch
from torch.nn import functional

from musicgen_engine.model.linear import Linear


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 8192), (1024, 1024), (4096, 1024)])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_is_the_same_to_the_bit_in_any_company(
    inputs: int, outputs: int, threads: int
) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    linear = Linear(torch.randn(outputs, inputs))
    x = torch.randn(128, inputs)
    alone = torch.cat([linear(row[None]) for row in x])
    for rows in (1, 2, 3, 4, 6, 8, 12, 16, 17, 31, 32, 33, 48, 64, 65, 127, 128):
        assert torch.equal(linear(x[:rows].contiguous()), alone[:rows])
        assert torch.equal(linear(x[-rows:].contiguous()), alone[-rows:])


@pytest.mark.parametrize("packed", [True, False])
def test_it_multiplies_by_the_matrix(packed: bool) -> None:
    weight, x = torch.randn(32, 16), torch.randn(5, 16)
    expected = functional.linear(x, weight)
    assert torch.allclose(Linear(weight, packed)(x), expected, rtol=0, atol=1e-5)
