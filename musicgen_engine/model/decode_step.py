"""A step on the device: the next codes of all slots, from its state alone.

It is a function over tensors at fixed places. It reads nothing on the host, and no shape depends on
a number in a tensor; so it can be captured once and replayed.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from musicgen_engine.model.decode_state import DecodeState
from musicgen_engine.model.guidance import SLOT_ROWS, combine_rows
from musicgen_engine.model.sampler import Filters, draw
from musicgen_engine.model.transformer import Transformer


def decode_step(model: Transformer, state: DecodeState, filters: Filters) -> None:
    """Make the codes of each slot from its next position, and go on by one position."""
    frames = state.position - state.delays  # of the window, which are made: [n, codebooks]
    batch = DecodePass(model, state)
    x = model.embed(_tokens(state, frames - 1, model.config.vocab_size).T)
    x = model.run(x.repeat_interleave(SLOT_ROWS, dim=0), batch)
    state.logits.copy_(model.logits(x).view_as(state.logits))
    guided = combine_rows(state.logits.flatten(0, 1)[state.rows], state.settings.guidance)
    state.made.copy_(draw(guided, state.settings, state.start + frames, filters))
    new = (frames >= state.prompt) & (frames < state.length) & state.decodes[:, None]
    nowhere = state.codes.shape[2] - 1
    places = torch.where(new, frames, nowhere)
    codes = state.made.clamp(min=0)  # a song that is not finite goes on until the host sees it
    state.codes.scatter_(2, places[..., None], codes[..., None])
    state.position.add_(state.decodes[:, None])


def _tokens(state: DecodeState, frames: Tensor, special_token: int) -> Tensor:
    """The tokens of these frames of the window: [n, codebooks]."""
    inside = (frames >= 0) & (frames < state.length)
    codes = state.codes.gather(2, torch.where(inside, frames, 0)[..., None])[..., 0]
    return torch.where(inside, codes, special_token)


class DecodePass:
    """The Pass of one position of each slot, with its guidance rows side by side."""

    def __init__(self, model: Transformer, state: DecodeState) -> None:
        cache, rows = model.cache.data, SLOT_ROWS
        self._cache, self._texts = model.cache, state.texts
        self._slots = n = len(state.position)
        device, nowhere = cache.device, cache.shape[5] - 1
        place = torch.where(state.decodes[:, None], state.prefix + state.position, nowhere)
        self._place = place.expand(n, rows).flatten()  # [n * rows]
        self._row = torch.arange(n * rows, device=device)
        self.positions = model.positions[self._place]
        self.text_rows = slice(None)
        past = torch.arange(nowhere + 1, device=device) <= self._place[:, None]
        self._past = _mask(past, cache.dtype)[:, None, None]  # [n * rows, 1, 1, positions]
        token = torch.arange(state.texts.shape[4], device=device)
        first, end = state.spans[..., None].unbind(2)  # [n, rows, 1]
        self._text = _mask((token >= first) & (token < end), cache.dtype)[:, None]

    def attend_to_past(self, layer: int, qkv: Tensor) -> Tensor:
        past = self._cache.data[layer, :, : self._slots].flatten(1, 2)
        past[:, self._row, :, self._place] = self._cache.kept(qkv[:, 1:])
        queries = qkv[:, 0, :, None]  # [n * rows, heads, 1, head_dim]
        return scaled_dot_product_attention(queries, past[0], past[1], self._past)[:, :, 0]

    def attend_to_text(self, layer: int, queries: Tensor) -> Tensor:
        """The rows of a slot are queries to the same tokens."""
        queries = queries.view(self._slots, -1, *queries.shape[1:]).transpose(1, 2)
        keys, values = self._texts[layer]
        attended = scaled_dot_product_attention(queries, keys, values, self._text)
        return attended.transpose(1, 2).flatten(0, 1)


def _mask(seen: Tensor, precision: torch.dtype) -> Tensor:
    """The numbers that attention adds to its scores."""
    return torch.zeros_like(seen, dtype=precision).masked_fill(~seen, -torch.inf)
