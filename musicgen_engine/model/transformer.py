"""MusicGen's transformer over a KV cache: one forward pass for all sequences of a batch.

A sequence has a slot in the cache, with a place for each of its guidance rows. A forward pass takes
one or more positions of each sequence and runs all rows of all positions through the matrices
together; a `Pass` says what each row attends to. On a CPU, in float32 and with packed matrices,
the same kernels compute a position whatever shares its batch: it comes out the same to the bit.

Source: audiocraft `models/lm.py` and `modules/transformer.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from musicgen_engine.model.backend import ModelInput, to_device
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.delay_pattern import Integers
from musicgen_engine.model.guidance import SLOT_ROWS
from musicgen_engine.model.int8 import Int8Linear
from musicgen_engine.model.kv_cache import KVCache
from musicgen_engine.model.linear import Linear
from musicgen_engine.model.positions import rotate, rotations, sinusoids
from musicgen_engine.model.segment_pass import Segment, SegmentPass, Texts

Norm = tuple[Tensor, Tensor]  # weight and bias, [dim] each
Place = Callable[[Tensor], Tensor]  # onto the device, in its precision


@dataclass(frozen=True)
class TransformerConfig:
    layers: int
    dim: int
    heads: int
    ffn_dim: int
    codebooks: int
    vocab_size: int  # of one codebook, without the special token
    rotary: bool  # rotary positions rather than sinusoids
    cross_attention: bool = True

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def parameters(self) -> int:
        """Those of all matrices; the norms have next to none."""
        attention = (8 if self.cross_attention else 4) * self.dim
        layer = self.dim * (attention + 2 * self.ffn_dim)
        return self.layers * layer + 2 * self.dim * self.codebooks * (self.vocab_size + 1)

    def weight_bytes(self, precision: torch.dtype) -> int:
        """Embeddings are read by rows, so beside matrices in int8 they stay in float32."""
        embeddings = self.dim * self.codebooks * (self.vocab_size + 1)
        each = torch.float32.itemsize if precision == torch.int8 else precision.itemsize
        return (self.parameters - embeddings) * precision.itemsize + embeddings * each

    def slot_bytes(self, positions: int, tokens: int, precision: torch.dtype) -> int:
        """The keys and values of so many positions and tokens of text. Native code keeps a scale
        with each, in float32 too."""
        is_native = precision in (torch.float32, torch.int8)
        scale = torch.float32.itemsize if is_native else 0
        key = self.dim * precision.itemsize + self.heads * scale
        return self.layers * 2 * key * (SLOT_ROWS * positions + tokens)


@dataclass(frozen=True)
class AttentionWeights:
    """Matrices are [out, in]."""

    norm: Norm
    qkv: Tensor  # to queries, keys and values: [3 * dim, dim]
    out: Tensor


@dataclass(frozen=True)
class LayerWeights:
    self_attention: AttentionWeights
    cross_attention: AttentionWeights | None
    norm_ffn: Norm
    ffn_in: Tensor
    ffn_out: Tensor


@dataclass(frozen=True)
class Weights:
    """`layers` hands the layers over one by one, so that each can be dropped once it is placed."""

    config: TransformerConfig
    embeddings: Tensor  # [codebooks, vocab_size + 1, dim]; the last one is the special token's
    layers: Iterable[LayerWeights]
    norm_out: Norm
    heads: Tensor  # one for each codebook: [codebooks * vocab_size, dim]
    frequencies: Tensor | None = None  # of rotary positions: [head_dim / 2]


class Pass(Protocol):
    """The rows of a forward pass, and what each of them attends to."""

    @property
    def positions(self) -> Tensor:
        """Sinusoids [rows, dim], or rotations [rows, 2, head_dim]."""

    @property
    def text_rows(self) -> Tensor | slice | None:
        """The rows that attend to a text, if there are any."""

    def attend_to_past(self, layer: int, qkv: Tensor) -> Tensor:
        """Keep the new keys and values: [rows, 3, heads, head_dim] → [rows, heads, head_dim]."""

    def attend_to_text(self, layer: int, queries: Tensor) -> Tensor:
        """[text rows, heads, head_dim] → the same shape."""


class Transformer:
    """A Backend in torch. With `PlainLinear` it is the reference of all others; in int8 it takes
    `Int8Linear` and is slow."""

    def __init__(
        self,
        weights: Weights,
        slots: int,
        positions: int,
        device: torch.device,
        precision: torch.dtype,
        linear: Callable[[Tensor], Linear],
    ) -> None:
        """`positions` are those of the longest window with its prefix."""
        if precision == torch.int8:
            linear = Int8Linear

        def place(tensor: Tensor) -> Tensor:
            return tensor.detach().to(device, self.cache.data.dtype)

        self.config = config = weights.config
        self.cache = KVCache.allocate(
            config.layers, slots, SLOT_ROWS, config.heads, positions, config.head_dim,
            device, precision,
        )  # fmt: skip
        self._device = device
        self._conditionings: dict[int, Conditioning] = {}  # by slot
        self._texts: Texts = {}
        self._embeddings = place(weights.embeddings).flatten(0, 1)
        token_count = config.vocab_size + 1
        self._offsets = torch.arange(config.codebooks, device=device)[:, None] * token_count
        # Sinusoids [positions, dim], or rotations [positions, 2, head_dim] in full precision.
        self.positions = (
            rotations(positions, weights.frequencies).to(device)
            if weights.frequencies is not None
            else place(sinusoids(positions, config.dim))
        )
        self._layers = [
            _Layer(layer, index, config, place, linear)
            for index, layer in enumerate(weights.layers)
        ]
        self._norm_out = _LayerNorm(weights.norm_out, place)
        self._heads = linear(place(weights.heads))

    @torch.inference_mode()
    def set_conditioning(self, slot: int, conditioning: Conditioning) -> Sequence[int]:
        prefix = None if conditioning.prefix is None else self._placed(conditioning.prefix)
        self._conditionings[slot] = replace(conditioning, prefix=prefix)
        for row, text in enumerate(conditioning.cross):
            self._texts[slot, row] = self._keys_values(text)
        return ()  # all are computed, because how it rounds one depends on the others of its pass

    @torch.inference_mode()
    def copy_row(self, source: int, slot: int, row: int, end: int) -> None:
        cache = self.cache.data  # all positions: a graph needs finite numbers beyond `end`, too
        cache[:, :, slot, row] = cache[:, :, source, 0]

    def _placed(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, self._embeddings.dtype)

    @torch.inference_mode()
    def forward(self, batch: ModelInput) -> Tensor:
        segments, sources = self._segments(batch)
        embedded = self.embed(to_device(torch.from_numpy(batch.tokens), self._device))
        source = to_device(torch.from_numpy(sources), self._device)
        x = self._with_prefixes(embedded[source], segments)
        x = self.run(x, SegmentPass(segments, self.positions, self.cache, self._texts))
        last = [segment.row(row)[-1] for segment in segments for row in range(segment.rows)]
        return self.logits(x[to_device(torch.tensor(last), self._device)])

    def _segments(self, batch: ModelInput) -> tuple[list[Segment], Integers]:
        """The segments, and the token of the batch that each row of the pass embeds."""
        segments, sources, first, token = [], [], 0, 0
        sequences = (batch.slots.tolist(), batch.starts.tolist(), batch.lengths.tolist())
        for slot, start, length in zip(*sequences, strict=True):
            conditioning = self._conditionings[slot]
            start += conditioning.prefix_length
            texts = tuple(text is not None for text in conditioning.cross)
            rows = slice(first, first + len(texts) * length)
            segments.append(Segment(slot, rows, start, start + length, texts))
            sources.append(np.tile(np.arange(token, token + length), len(texts)))
            first, token = rows.stop, token + length
        return segments, np.concatenate(sources)

    def _with_prefixes(self, x: Tensor, segments: Sequence[Segment]) -> Tensor:
        """x: [rows of the pass, dim], with prefixes where these stand for tokens."""
        for segment in segments:
            prefix = self._conditionings[segment.slot].prefix
            if prefix is not None and segment.start < prefix.shape[1]:
                part = prefix[:, segment.start : segment.end]
                rows = x[segment.x].view(segment.rows, segment.length, -1)
                rows[:, : part.shape[1]] = part
        return x

    @torch.inference_mode()
    def text(self, slot: int, row: int) -> list[Tensor]:
        """The text of a row, see `_keys_values`."""
        return self._texts[slot, row]

    def _keys_values(self, text: Tensor | None) -> list[Tensor]:
        """A text as each layer's cross-attention keeps it: [2, heads, tokens, head_dim]; of the
        null text, nothing."""
        if text is None or not self.config.cross_attention:
            return []
        placed = self._placed(text)
        return [self.cache.kept(layer.keys_values(placed)).contiguous() for layer in self._layers]

    def embed(self, tokens: Tensor) -> Tensor:
        """[codebooks, positions] → [positions, dim]"""
        # Codebook after codebook, as audiocraft adds them.
        codebooks = functional.embedding(tokens + self._offsets, self._embeddings).unbind()
        return reduce(torch.add, codebooks)

    def run(self, x: Tensor, batch: Pass) -> Tensor:
        """All layers on x: [rows of the pass, dim]."""
        if not self.config.rotary:
            x = x + batch.positions
        for layer in self._layers:
            x = layer(x, batch)
        return x

    def logits(self, x: Tensor) -> Tensor:
        """[rows, dim] → float32 [rows, codebooks, vocab_size]"""
        logits = self._heads(self._norm_out(x)).float()
        return logits.view(-1, self.config.codebooks, self.config.vocab_size)


class _Layer:
    def __init__(
        self,
        weights: LayerWeights,
        index: int,
        config: TransformerConfig,
        place: Place,
        linear: Callable[[Tensor], Linear],
    ) -> None:
        self._self_attention = _SelfAttention(weights.self_attention, index, config, place, linear)
        self._cross_attention = (
            _CrossAttention(weights.cross_attention, index, config, place, linear)
            if weights.cross_attention
            else None
        )
        self._norm_ffn = _LayerNorm(weights.norm_ffn, place)
        self._ffn_in = linear(place(weights.ffn_in))
        self._ffn_out = linear(place(weights.ffn_out))

    def keys_values(self, text: Tensor) -> Tensor:
        assert self._cross_attention
        return self._cross_attention.keys_values(text)

    def __call__(self, x: Tensor, batch: Pass) -> Tensor:
        x = self._self_attention(x, batch)
        if self._cross_attention and batch.text_rows is not None:
            x = self._cross_attention(x, batch, batch.text_rows)
        return x + self._ffn_out(functional.gelu(self._ffn_in(self._norm_ffn(x))))


class _SelfAttention:
    def __init__(
        self,
        weights: AttentionWeights,
        layer: int,
        config: TransformerConfig,
        place: Place,
        linear: Callable[[Tensor], Linear],
    ) -> None:
        self._layer, self._heads, self._rotary = layer, config.heads, config.rotary
        self._norm = _LayerNorm(weights.norm, place)
        self._qkv = linear(place(weights.qkv))
        self._out = linear(place(weights.out))

    def __call__(self, x: Tensor, batch: Pass) -> Tensor:
        """x: [rows of the pass, dim]"""
        qkv = self._qkv(self._norm(x)).view(len(x), 3, self._heads, -1)
        if self._rotary:
            qkv[:, :2] = rotate(qkv[:, :2], batch.positions)
        return x + self._out(batch.attend_to_past(self._layer, qkv).flatten(1))


class _CrossAttention:
    """The rows without a text are left as they are: without biases, keys and values of the null
    text are zero, and nothing would be added."""

    def __init__(
        self,
        weights: AttentionWeights,
        layer: int,
        config: TransformerConfig,
        place: Place,
        linear: Callable[[Tensor], Linear],
    ) -> None:
        self._layer, self._shape = layer, (config.heads, config.head_dim)
        self._norm = _LayerNorm(weights.norm, place)
        self._queries = linear(place(weights.qkv[: config.dim]))
        self._keys_values = linear(place(weights.qkv[config.dim :]))
        self._out = linear(place(weights.out))

    def keys_values(self, text: Tensor) -> Tensor:
        """[tokens, dim] → [2, heads, tokens, head_dim]"""
        return self._keys_values(text).view(-1, 2, *self._shape).permute(1, 2, 0, 3)

    def __call__(self, x: Tensor, batch: Pass, rows: Tensor | slice) -> Tensor:
        """x: [rows of the pass, dim]; `rows` have a text."""
        queries = self._queries(self._norm(x[rows])).view(-1, *self._shape)
        x[rows] += self._out(batch.attend_to_text(self._layer, queries).flatten(1))
        return x


class _LayerNorm:
    def __init__(self, norm: Norm, place: Place) -> None:
        self._weight, self._bias = map(place, norm)

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self._weight.shape, self._weight, self._bias, eps=1e-5)
