"""Attention over keys and values that lie in a cache."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def attend_to_past(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Causal attention of the last n positions.

    On a CPU one position at a time, so that it comes out the same to the bit whether it was decoded
    alone or prefilled in a chunk.

    Args:
        queries: [rows, heads, n, head_dim], of the last n positions.
        keys, values: [rows, heads, positions, head_dim].

    Returns:
        [rows, heads, n, head_dim]
    """
    n, positions = queries.shape[2], keys.shape[2]
    attend = functional.scaled_dot_product_attention
    if n == 1:
        return attend(queries, keys, values)
    if queries.device.type == "cpu":
        ends = range(positions - n + 1, positions + 1)
        outputs = [
            attend(query[:, :, None], keys[:, :, :end], values[:, :, :end])
            for query, end in zip(queries.unbind(dim=2), ends, strict=True)
        ]
        return torch.cat(outputs, dim=2)
    mask = torch.ones(n, positions, dtype=torch.bool, device=queries.device).tril(positions - n)
    return attend(queries, keys, values, attn_mask=mask)


def attend_to_text(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of n positions over a whole text.

    On a CPU one position at a time: of several, the place among them chooses the thread that
    computes one, and the place of the thread's memory its last bits.

    Args:
        queries: [n, heads, head_dim].
        keys, values: [heads, tokens, head_dim].

    Returns:
        [n, heads, head_dim]
    """
    count = 1 if queries.device.type == "cpu" else len(queries)
    keys, values = keys.expand(count, *keys.shape), values.expand(count, *values.shape)
    outputs = [
        functional.scaled_dot_product_attention(part, keys, values)
        for part in torch.split(queries[:, :, None], count)
    ]
    return torch.cat(outputs)[:, :, 0]
