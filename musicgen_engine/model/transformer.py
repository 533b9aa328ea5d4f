"""MusicGen's transformer over a KV cache: one forward pass for all sequences of a batch.

A sequence has a slot in the cache, with a place for each of its guidance rows. A forward pass takes
one or more positions of each sequence and runs all rows of all positions through the matrices
together. Attention is done sequence by sequence, each over its own past, so a sequence does not
depend on the length or number of its batch mates. On a CPU, in float32 and with packed matrices,
the same kernels compute a position whatever shares its batch: it comes out the same to the bit.

Source: audiocraft `models/lm.py` and `modules/transformer.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from musicgen_engine.model.attention import attend_to_past, attend_to_text
from musicgen_engine.model.backend import ModelInput, to_device
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.delay_pattern import Integers
from musicgen_engine.model.guidance import CLASSIFIER_FREE
from musicgen_engine.model.int8 import Int8Linear
from musicgen_engine.model.kv_cache import KVCache
from musicgen_engine.model.linear import Linear
from musicgen_engine.model.positions import rotate, rotations, sinusoids

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
    rows: int = CLASSIFIER_FREE.rows  # guidance rows that a slot has room for

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def parameters(self) -> int:
        """Those of all matrices; the norms have next to none."""
        attention = (8 if self.cross_attention else 4) * self.dim
        layer = self.dim * (attention + 2 * self.ffn_dim)
        return self.layers * layer + 2 * self.dim * self.codebooks * (self.vocab_size + 1)

    def cached_numbers(self, positions: int, tokens: int) -> int:
        """Numbers that the cache keeps for a slot of so many positions and tokens of text."""
        return self.layers * 2 * self.dim * (self.rows * positions + tokens)


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


@dataclass(frozen=True)
class _Segment:
    """The positions of one sequence in a forward pass, row after row."""

    slot: int
    x: slice  # its rows among all rows of the pass
    start: int  # its new positions in the cache
    end: int
    texts: tuple[bool, ...]  # for each guidance row: does it attend to a text?

    @property
    def rows(self) -> int:
        return len(self.texts)

    @property
    def length(self) -> int:
        return self.end - self.start

    def row(self, row: int) -> range:
        """The positions of one guidance row."""
        first = self.x.start + row * self.length
        return range(first, first + self.length)


@dataclass(frozen=True)
class _Pass:
    """All that the layers must know of a forward pass."""

    segments: Sequence[_Segment]
    rotations: Tensor | None  # [rows of the pass, 2, head_dim]
    texts: list[tuple[int, int, int]]  # slot, guidance row and length of each row with a text
    text_rows: Tensor  # the positions of these among the rows of the pass


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
            return tensor.detach().to(device, self._cache.data.dtype)

        self._config = config = weights.config
        self._device = device
        self._cache = KVCache.allocate(
            config.layers, slots, config.rows, config.heads, positions, config.head_dim,
            device, precision,
        )  # fmt: skip
        self._conditionings: dict[int, Conditioning] = {}  # by slot
        self._embeddings = place(weights.embeddings).flatten(0, 1)
        token_count = config.vocab_size + 1
        self._offsets = torch.arange(config.codebooks, device=device)[:, None] * token_count
        # Sinusoids [positions, dim], or rotations [positions, 2, head_dim] in full precision.
        self._positions = (
            rotations(positions, config.head_dim).to(device)
            if config.rotary
            else place(sinusoids(positions, config.dim))
        )
        self._layers = [
            _Layer(layer, index, self._cache, config, place, linear)
            for index, layer in enumerate(weights.layers)
        ]
        self._norm_out = _LayerNorm(weights.norm_out, place)
        self._heads = linear(place(weights.heads))

    @torch.inference_mode()
    def set_conditioning(self, slot: int, conditioning: Conditioning) -> None:
        placed = [None if one is None else self._placed(one) for one in conditioning.cross]
        prefix = None if conditioning.prefix is None else self._placed(conditioning.prefix)
        self._conditionings[slot] = replace(conditioning, prefix=prefix)
        for row, text in enumerate(placed):
            for layer in self._layers:
                layer.set_text(slot, row, text)

    def _placed(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, self._cache.data.dtype)

    @torch.inference_mode()
    def forward(self, batch: ModelInput) -> Tensor:
        segments, sources = self._segments(batch)
        embedded = self._embed(to_device(torch.from_numpy(batch.tokens), self._device))
        source = to_device(torch.from_numpy(sources), self._device)
        x = self._run(self._with_prefixes(embedded[source], segments), segments)
        last = [segment.row(row)[-1] for segment in segments for row in range(segment.rows)]
        logits = self._heads(self._norm_out(x[last])).float()
        return logits.view(-1, self._config.codebooks, self._config.vocab_size)

    def _segments(self, batch: ModelInput) -> tuple[list[_Segment], Integers]:
        """The segments, and the token of the batch that each row of the pass embeds."""
        segments, sources, first, token = [], [], 0, 0
        sequences = (batch.slots.tolist(), batch.starts.tolist(), batch.lengths.tolist())
        for slot, start, length in zip(*sequences, strict=True):
            conditioning = self._conditionings[slot]
            start += conditioning.prefix_length
            texts = tuple(text is not None for text in conditioning.cross)
            rows = slice(first, first + len(texts) * length)
            segments.append(_Segment(slot, rows, start, start + length, texts))
            sources.append(np.tile(np.arange(token, token + length), len(texts)))
            first, token = rows.stop, token + length
        return segments, np.concatenate(sources)

    def _with_prefixes(self, x: Tensor, segments: Sequence[_Segment]) -> Tensor:
        """x: [rows of the pass, dim], with prefixes where these stand for tokens."""
        for segment in segments:
            prefix = self._conditionings[segment.slot].prefix
            if prefix is not None and segment.start < prefix.shape[1]:
                part = prefix[:, segment.start : segment.end]
                rows = x[segment.x].view(segment.rows, segment.length, -1)
                rows[:, : part.shape[1]] = part
        return x

    def _embed(self, tokens: Tensor) -> Tensor:
        """[codebooks, positions] → [positions, dim]"""
        # Codebook after codebook, as audiocraft adds them.
        codebooks = functional.embedding(tokens + self._offsets, self._embeddings).unbind()
        return reduce(torch.add, codebooks)

    def _run(self, x: Tensor, segments: Sequence[_Segment]) -> Tensor:
        """All layers on x: [rows of the pass, dim]."""
        runs = [self._positions[segment.start : segment.end] for segment in segments]
        positions = torch.cat(
            [run for run, segment in zip(runs, segments, strict=True) for _ in segment.texts]
        )
        if not self._config.rotary:
            x = x + positions
        rows = [
            (segment, row) for segment in segments for row, text in enumerate(segment.texts) if text
        ]
        batch = _Pass(
            segments,
            rotations=positions if self._config.rotary else None,
            texts=[(segment.slot, row, segment.length) for segment, row in rows],
            text_rows=to_device(
                torch.tensor([x for segment, row in rows for x in segment.row(row)]), x.device
            ),
        )
        for layer in self._layers:
            x = layer(x, batch)
        return x


class _Layer:
    def __init__(
        self,
        weights: LayerWeights,
        index: int,
        cache: KVCache,
        config: TransformerConfig,
        place: Place,
        linear: Callable[[Tensor], Linear],
    ) -> None:
        self._self_attention = _SelfAttention(
            weights.self_attention, index, cache, config, place, linear
        )
        self._cross_attention = (
            _CrossAttention(weights.cross_attention, cache, config, place, linear)
            if weights.cross_attention
            else None
        )
        self._norm_ffn = _LayerNorm(weights.norm_ffn, place)
        self._ffn_in = linear(place(weights.ffn_in))
        self._ffn_out = linear(place(weights.ffn_out))

    def set_text(self, slot: int, row: int, text: Tensor | None) -> None:
        if self._cross_attention:
            self._cross_attention.set_text(slot, row, text)

    def __call__(self, x: Tensor, batch: _Pass) -> Tensor:
        x = self._self_attention(x, batch)
        if self._cross_attention and batch.texts:
            x = self._cross_attention(x, batch)
        return x + self._ffn_out(functional.gelu(self._ffn_in(self._norm_ffn(x))))


class _SelfAttention:
    def __init__(
        self,
        weights: AttentionWeights,
        layer: int,
        cache: KVCache,
        config: TransformerConfig,
        place: Place,
        linear: Callable[[Tensor], Linear],
    ) -> None:
        self._layer, self._cache, self._heads = layer, cache, config.heads
        self._norm = _LayerNorm(weights.norm, place)
        self._qkv = linear(place(weights.qkv))
        self._out = linear(place(weights.out))

    def __call__(self, x: Tensor, batch: _Pass) -> Tensor:
        """x: [rows of the pass, dim]"""
        qkv = self._qkv(self._norm(x)).view(len(x), 3, self._heads, -1)
        if batch.rotations is not None:
            qkv[:, :2] = rotate(qkv[:, :2], batch.rotations)
        outputs = []
        for segment in batch.segments:
            new = qkv[segment.x].view(segment.rows, segment.length, 3, self._heads, -1)
            new = new.permute(2, 0, 3, 1, 4)  # [3, rows, heads, positions, head_dim]
            past = self._cache.past(self._layer, segment.slot, segment.rows, segment.end)
            past[..., segment.start :, :] = self._cache.kept(new[1:])
            attended = attend_to_past(new[0], *past)
            outputs.append(attended.transpose(1, 2).flatten(0, 1))
        return x + self._out(torch.cat(outputs).flatten(1))


class _CrossAttention:
    """The rows without a text are left as they are: without biases, keys and values of the null
    text are zero, and nothing would be added."""

    def __init__(
        self,
        weights: AttentionWeights,
        cache: KVCache,
        config: TransformerConfig,
        place: Place,
        linear: Callable[[Tensor], Linear],
    ) -> None:
        self._cache, self._heads = cache, config.heads
        self._norm = _LayerNorm(weights.norm, place)
        self._queries = linear(place(weights.qkv[: config.dim]))
        self._keys_values = linear(place(weights.qkv[config.dim :]))
        self._out = linear(place(weights.out))
        # (slot, row) → [2 (keys, values), heads, tokens, head_dim]
        self._texts: dict[tuple[int, int], Tensor] = {}

    def set_text(self, slot: int, row: int, text: Tensor | None) -> None:
        self._texts.pop((slot, row), None)
        if text is not None:
            keys_values = self._keys_values(text).view(len(text), 2, self._heads, -1)
            self._texts[slot, row] = self._cache.kept(keys_values.permute(1, 2, 0, 3)).contiguous()

    def __call__(self, x: Tensor, batch: _Pass) -> Tensor:
        """x: [rows of the pass, dim]"""
        rows = batch.text_rows
        queries = self._queries(self._norm(x.index_select(0, rows))).view(
            len(rows), self._heads, -1
        )
        parts = torch.split(queries, [length for _, _, length in batch.texts])
        attended = [
            attend_to_text(part, *self._texts[slot, row])
            for part, (slot, row, _) in zip(parts, batch.texts, strict=True)
        ]
        return x.index_add_(0, rows, self._out(torch.cat(attended).flatten(1)))


class _LayerNorm:
    def __init__(self, norm: Norm, place: Place) -> None:
        self._weight, self._bias = map(place, norm)

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self._weight.shape, self._weight, self._bias, eps=1e-5)
