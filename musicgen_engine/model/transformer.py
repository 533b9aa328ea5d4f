"""MusicGen's transformer over a static cache: one step for all songs, wherever each of them is.

A song has a slot: a place in the cache for two rows, one conditioned on its text and one not
(classifier-free guidance). A step takes a piece of each song, one column or more, and runs all
columns through the matrices together. Only attention is done song by song, each over its own past.
So neither the number of the others nor their length changes a song: on a CPU, in float32 and with
packed weights, every column is computed by the same kernels whatever shares its step, and comes out
the same to the bit.

Source: audiocraft `models/lm.py` and `modules/transformer.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from musicgen_engine.model.attention import attend_to_past, attend_to_text
from musicgen_engine.model.linear import Linear
from musicgen_engine.model.positions import rotate, rotations, sinusoids
from musicgen_engine.model.transfer import sent
from musicgen_engine.model.delay_pattern import Frames

ROWS = 2  # of a song: conditional, unconditional


@dataclass(frozen=True)
class Shape:
    layers: int
    dim: int
    heads: int  # of the attention
    feed: int  # width between the two matrices behind it
    codebooks: int
    card: int
    rotary: bool  # positions, rather than sinusoids

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def parameters(self) -> int:
        """Of all matrices; the norms have next to none."""
        layer = self.dim * (8 * self.dim + 2 * self.feed)
        return self.layers * layer + 2 * self.dim * self.codebooks * (self.card + 1)

    def cached(self, columns: int, tokens: int) -> int:
        """Numbers kept for a song of so many columns with so many tokens of text."""
        return self.layers * 2 * self.dim * (ROWS * columns + tokens)


@dataclass(frozen=True)
class LayerWeights:
    """Matrices are [out, in]; norms are weight and bias, [dim] each."""

    norm_self: tuple[Tensor, Tensor]
    self_in: Tensor  # to queries, keys, values: [3 * dim, dim]
    self_out: Tensor
    norm_cross: tuple[Tensor, Tensor]
    cross_in: Tensor  # the same
    cross_out: Tensor
    norm_feed: tuple[Tensor, Tensor]
    feed_in: Tensor
    feed_out: Tensor


@dataclass(frozen=True)
class Weights:
    """`layers` hands them over one by one, so that each can be dropped once it is packed."""

    shape: Shape
    embeddings: Tensor  # [codebooks, card + 1, dim]; the last one is the special token's
    layers: Iterable[LayerWeights]
    norm_out: tuple[Tensor, Tensor]
    heads: Tensor  # one for each codebook: [codebooks * card, dim]


@dataclass(frozen=True)
class Piece:
    """Tokens [codebooks, n] of a song's columns from `start` on."""

    slot: int
    start: int
    tokens: Frames


@dataclass(frozen=True)
class _Span:
    """Where a piece is among all columns of a step, and what its attention looks at."""

    columns: slice
    keys: slice  # of the cache's columns: those that the piece adds
    past: slice  # all up to them
    slot: int


class Decoder:
    def __init__(
        self,
        weights: Weights,
        slots: int,
        columns: int,
        device: torch.device,
        precision: torch.dtype,
        packed: bool = True,
    ) -> None:
        """`columns` are those of the longest window; `packed`: see Linear."""

        def place(tensor: Tensor) -> Tensor:
            return tensor.detach().to(device, precision)

        self._shape = shape = weights.shape
        self._device = device
        cache = (shape.layers, slots, 2, ROWS, shape.heads, columns, shape.head_dim)
        # Never cleared: attention sees only what the song in the slot has written.
        self._cache = torch.empty(cache, device=device, dtype=precision)
        self._embeddings = place(weights.embeddings).flatten(0, 1)
        self._offsets = torch.arange(shape.codebooks, device=device)[:, None] * (shape.card + 1)
        # Sinusoids [columns, dim], or rotations [columns, 2, head_dim]: those in full precision.
        self._positions = (
            rotations(columns, shape.head_dim).to(device)
            if shape.rotary
            else place(sinusoids(columns, shape.dim))
        )
        self._layers = [
            _Layer(layer, cache, shape, place, packed)
            for layer, cache in zip(weights.layers, self._cache, strict=True)
        ]
        self._norm_out = _Norm(weights.norm_out, place)
        self._heads = Linear(place(weights.heads), packed)

    @torch.inference_mode()
    def condition(self, slot: int, text: Tensor) -> None:
        """The next song in `slot` follows `text`: [tokens, dim], the encoder's output."""
        text = text.to(self._device, self._cache.dtype)
        for layer in self._layers:
            layer.condition(slot, text)

    @torch.inference_mode()
    def step(self, pieces: Sequence[Piece]) -> Tensor:
        """Runs the pieces, each a continuation of what its slot has seen since column 0.

        Returns:
            What follows the last column of each piece: logits, float32
            [ROWS, pieces, codebooks, card].
        """
        tokens = torch.from_numpy(np.concatenate([piece.tokens for piece in pieces], axis=1))
        ends = list(accumulate(piece.tokens.shape[1] for piece in pieces))
        spans = [_span(piece, end) for piece, end in zip(pieces, ends, strict=True)]
        positions = torch.cat([self._positions[span.keys] for span in spans])
        x = self._embed(sent(tokens, self._device))
        if not self._shape.rotary:
            x = x + positions
        x = x.repeat(ROWS, 1)  # [ROWS * columns, dim]
        for layer in self._layers:
            x = layer(x, spans, positions if self._shape.rotary else None)
        columns = x.view(ROWS, -1, self._shape.dim).unbind(1)
        last = torch.stack([columns[end - 1] for end in ends], dim=1).flatten(0, 1)
        logits = self._heads(self._norm_out(last)).float()
        return logits.view(ROWS, len(pieces), self._shape.codebooks, self._shape.card)

    def _embed(self, tokens: Tensor) -> Tensor:
        """[codebooks, columns] → [columns, dim]"""
        # Codebook after codebook, as audiocraft adds them.
        codebooks = functional.embedding(tokens + self._offsets, self._embeddings).unbind()
        return reduce(torch.add, codebooks)


class _Layer:
    def __init__(
        self,
        weights: LayerWeights,
        cache: Tensor,
        shape: Shape,
        place: Callable[[Tensor], Tensor],
        packed: bool,
    ) -> None:
        def linear(weight: Tensor) -> Linear:
            return Linear(place(weight), packed)

        self._heads = shape.heads
        self._cache = cache  # [slots, 2 (keys, values), ROWS, heads, columns, head_dim]
        self._texts: dict[int, Tensor] = {}  # slot → [2 (keys, values), heads, tokens, head_dim]
        self._norm_self = _Norm(weights.norm_self, place)
        self._self_in = linear(weights.self_in)
        self._self_out = linear(weights.self_out)
        self._norm_cross = _Norm(weights.norm_cross, place)
        self._cross_queries = linear(weights.cross_in[: shape.dim])
        self._cross_keys_values = linear(weights.cross_in[shape.dim :])
        self._cross_out = linear(weights.cross_out)
        self._norm_feed = _Norm(weights.norm_feed, place)
        self._feed_in = linear(weights.feed_in)
        self._feed_out = linear(weights.feed_out)

    def condition(self, slot: int, text: Tensor) -> None:
        keys_values = self._cross_keys_values(text).view(len(text), 2, self._heads, -1)
        self._texts[slot] = keys_values.permute(1, 2, 0, 3).contiguous()

    def __call__(self, x: Tensor, spans: Sequence[_Span], rotations: Tensor | None) -> Tensor:
        """x: [ROWS * columns, dim]; rotations: [columns, 2, head_dim], if positions are rotary."""
        x = x + self._attend_to_past(self._norm_self(x), spans, rotations)
        # The unconditional rows have no text: keys and values of nothing are zero, for there is no
        # bias, and nothing would be added.
        conditional = x[: len(x) // ROWS]
        conditional += self._attend_to_text(self._norm_cross(conditional), spans)
        return x + self._feed_out(functional.gelu(self._feed_in(self._norm_feed(x))))

    def _attend_to_past(
        self, x: Tensor, spans: Sequence[_Span], rotations: Tensor | None
    ) -> Tensor:
        projected = self._self_in(x).view(ROWS, len(x) // ROWS, 3, self._heads, -1)
        if rotations is not None:
            projected[:, :, :2] = rotate(projected[:, :, :2], rotations)
        queries, *new = projected.permute(2, 0, 3, 1, 4)  # each [ROWS, heads, columns, head_dim]
        outputs = torch.empty_like(projected[:, :, 0]).transpose(1, 2)
        for span in spans:
            keys, values = self._cache[span.slot]
            keys[:, :, span.keys] = new[0][:, :, span.columns]
            values[:, :, span.keys] = new[1][:, :, span.columns]
            outputs[:, :, span.columns] = attend_to_past(
                queries[:, :, span.columns], keys[:, :, span.past], values[:, :, span.past]
            )
        return self._self_out(outputs.transpose(1, 2).reshape(x.shape))

    def _attend_to_text(self, x: Tensor, spans: Sequence[_Span]) -> Tensor:
        queries = self._cross_queries(x).view(len(x), self._heads, -1)
        outputs = [attend_to_text(queries[span.columns], *self._texts[span.slot]) for span in spans]
        return self._cross_out(torch.cat(outputs).flatten(1))


class _Norm:
    def __init__(self, norm: tuple[Tensor, Tensor], place: Callable[[Tensor], Tensor]) -> None:
        self._weight, self._bias = map(place, norm)

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self._weight.shape, self._weight, self._bias, eps=1e-5)


def _span(piece: Piece, end: int) -> _Span:
    count = piece.tokens.shape[1]
    until = piece.start + count
    return _Span(slice(end - count, end), slice(piece.start, until), slice(until), piece.slot)
