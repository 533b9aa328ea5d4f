"""Attention of new columns over keys and values that lie in a cache."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def attend_to_past(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Each of the n new columns sees all before it and itself.

    On a CPU one column at a time: so it comes out the same to the bit whether it was decoded alone
    or prefilled among others.

    Args:
        queries: [rows, heads, n, head_dim], of the last n columns.
        keys, values: [rows, heads, columns, head_dim].

    Returns:
        [rows, heads, n, head_dim]
    """
    n, columns = queries.shape[2], keys.shape[2]
    attend = functional.scaled_dot_product_attention
    if n == 1:
        return attend(queries, keys, values)
    if queries.device.type == "cpu":
        ends = range(columns - n + 1, columns + 1)
        outputs = [
            attend(query[:, :, None], keys[:, :, :end], values[:, :, :end])
            for query, end in zip(queries.unbind(dim=2), ends, strict=True)
        ]
        return torch.cat(outputs, dim=2)
    past = torch.ones(n, columns, dtype=torch.bool, device=queries.device).tril(columns - n)
    return attend(queries, keys, values, attn_mask=past)


def attend_to_text(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Each of the n columns sees the whole text, all by itself: they are a batch.

    Args:
        queries: [n, heads, head_dim].
        keys, values: [heads, tokens, head_dim].

    Returns:
        [n, heads, head_dim]
    """
    n = len(queries)
    outputs = functional.scaled_dot_product_attention(
        queries[:, :, None], keys.expand(n, *keys.shape), values.expand(n, *values.shape)
    )
    return outputs[:, :, 0]
