"""A position is computed by itself, whatever is computed with it."""

import pytest
import torch
from torch.nn import functional

from musicgen_engine.model.attention import attend_to_past, attend_to_text

HEAD_DIM = 64
HEADS = [16, 24, 32]  # of MusicGen small, medium and large


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_position_attends_to_a_text_by_itself_to_the_bit(heads: int, threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    queries = torch.randn(33, heads, HEAD_DIM)
    for tokens in (1, 12, 77):
        keys, values = torch.randn(2, heads, tokens, HEAD_DIM)
        alone = torch.cat([attend_to_text(query[None], keys, values) for query in queries])
        for count in (2, 5, 33):
            assert torch.equal(attend_to_text(queries[:count], keys, values), alone[:count])


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_position_attends_to_its_past_by_itself_to_the_bit(heads: int, threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    queries = torch.randn(2, heads, 8, HEAD_DIM)
    keys, values = torch.randn(2, 2, heads, 100, HEAD_DIM)
    alone = [
        attend_to_past(queries[:, :, i : i + 1], keys[:, :, : 93 + i], values[:, :, : 93 + i])
        for i in range(8)
    ]
    assert torch.equal(attend_to_past(queries, keys, values), torch.cat(alone, dim=2))


def test_a_text_is_attended_to_as_the_formula_says() -> None:
    queries, (keys, values) = torch.randn(5, 4, 8), torch.randn(2, 4, 7, 8)
    scores = torch.einsum("nhd,htd->nht", queries, keys) / 8**0.5
    expected = torch.einsum("nht,htd->nhd", functional.softmax(scores, dim=-1), values)
    assert torch.allclose(attend_to_text(queries, keys, values), expected, rtol=0, atol=1e-5)
