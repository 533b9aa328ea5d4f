import os
import subprocess
import sys

import pytest
import torch
from torch.nn import functional

from musicgen_engine.model.linear import Linear, PackedLinear, PlainLinear
from tests.conftest import ROOT

WIDTHS = (1024, 1536, 2048)  # of MusicGen small, medium and large
SHAPES = [shape for w in WIDTHS for shape in ((w, w), (w, 4 * w), (4 * w, w))]
ROWS = (1, 2, 3, 4, 6, 8, 15, 16, 17, 32, 33, 64, 65, 128)


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 8192), (1024, 1024), (4096, 1024)])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_is_the_same_to_the_bit_in_any_batch(inputs: int, outputs: int, threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    linear = PackedLinear(torch.randn(outputs, inputs))
    x = torch.randn(128, inputs)
    alone = torch.cat([linear(row[None]) for row in x])
    for rows in ROWS:
        assert torch.equal(linear(x[:rows].contiguous()), alone[:rows])
        assert torch.equal(linear(x[-rows:].contiguous()), alone[-rows:])


def unequal_rows() -> list[tuple[int, int, int]]:
    """Every (inputs, outputs, rows) where a row of a batch differs from the row alone."""
    torch.manual_seed(0)
    x = torch.randn(16, 4 * max(WIDTHS))
    numbers = torch.randn(4 * max(WIDTHS) ** 2)
    found = []
    for inputs, outputs in SHAPES:
        linear = PackedLinear(numbers[: outputs * inputs].view(outputs, inputs))
        batch = x[:, :inputs].contiguous()
        alone = linear(batch[:1])
        for rows in (2, 3, 16):
            same = torch.stack([batch[0], *batch[: rows - 1]])
            if not torch.equal(linear(same)[:2], alone.repeat(2, 1)):
                found.append((inputs, outputs, rows))
    return found


def test_a_row_is_the_same_to_the_bit_at_musicgens_widths() -> None:
    """oneDNN has other kernels for a single row on some processors."""
    assert unequal_rows() == []


def test_a_row_is_the_same_to_the_bit_without_avx512() -> None:
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        pytest.skip("this processor has no AVX-512: the other tests are this one")
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [sys.executable, "-m", "tests.musicgen_engine.model.test_linear"]
    result = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    assert result.stdout == "[]\n"


@pytest.mark.parametrize("kind", [PackedLinear, PlainLinear])
@pytest.mark.parametrize("rows", [1, 5])
def test_it_multiplies_by_the_matrix(kind: type[Linear], rows: int) -> None:
    weight, x = torch.randn(32, 16), torch.randn(rows, 16)
    expected = functional.linear(x, weight)
    assert torch.allclose(kind(weight)(x), expected, rtol=0, atol=1e-5)


if __name__ == "__main__":
    print(unequal_rows())
