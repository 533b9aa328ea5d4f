"""The transformer in native code: one call for a whole forward pass (kernels/transformer.cpp)."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from ctypes import c_int32, c_void_p
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from musicgen_engine.model.backend import BackendUnavailable, ModelInput
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.delay_pattern import Integers
from musicgen_engine.model.guidance import SLOT_ROWS
from musicgen_engine.model.native_library import LANES, MAX_THREADS, check, library, plain
from musicgen_engine.model.positions import rotations, sinusoids
from musicgen_engine.model.transformer import AttentionWeights, LayerWeights, Weights

MAX_TOKENS = 2_048  # of a text; a checkpoint's encoder gives fewer


class _Shape(ctypes.Structure):
    _fields_ = [
        (name, c_int32)
        for name in (
            "layers", "dim", "heads", "ffn_dim", "codebooks", "vocab_size", "rotary",
            "cross_attention", "int8", "guidance_rows", "slots", "positions", "max_rows",
            "max_tokens",
        )
    ]  # fmt: skip


class _LayerTensors(ctypes.Structure):
    _fields_ = [
        (name, c_void_p)
        for name in (
            "self_norm_weight", "self_norm_bias", "self_qkv", "self_out",
            "cross_norm_weight", "cross_norm_bias", "cross_qkv", "cross_out",
            "ffn_norm_weight", "ffn_norm_bias", "ffn_in", "ffn_out",
        )
    ]  # fmt: skip


class NativeTransformer:
    """A Backend on the CPU, with matrices and cache in float32 or int8."""

    def __init__(
        self,
        weights: Weights,
        slots: int,
        positions: int,
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        config = weights.config
        if device.type != "cpu" or precision not in (torch.float32, torch.int8):
            raise BackendUnavailable("computes in float32 or int8 on a CPU")
        sizes = (config.dim, config.head_dim, config.ffn_dim, config.codebooks * config.vocab_size)
        if any(size % LANES for size in sizes):
            raise BackendUnavailable(f"needs sizes that are multiples of {LANES}")
        self._config = config
        self._positions = positions
        self._conditionings: dict[int, Conditioning] = {}  # by slot; native code reads the prefixes
        self._rows, self._prefixes = np.zeros((2, slots), int)  # by slot
        # By slot and row: the first positions of the prefix whose keys and values the cache has,
        # such as the null melody's from the song before.
        self._known = np.zeros((slots, SLOT_ROWS), int)
        self._library = library()
        self._max_rows = SLOT_ROWS * (slots + positions)  # a whole window beside all others
        shape = _Shape(
            config.layers, config.dim, config.heads, config.ffn_dim, config.codebooks,
            config.vocab_size, config.rotary, config.cross_attention, precision == torch.int8,
            SLOT_ROWS, slots, positions, self._max_rows, MAX_TOKENS,
        )  # fmt: skip
        threads = min(torch.get_num_threads(), MAX_THREADS)
        self._model = self._library.model_new(ctypes.byref(shape), threads)
        # Not at the end of the process: another thread may still compute then.
        weakref.finalize(self, self._library.model_free, self._model).atexit = False
        table = (
            rotations(positions, weights.frequencies)
            if weights.frequencies is not None
            else sinusoids(positions, config.dim)
        )
        ends = [plain(t) for t in (weights.embeddings, table, *weights.norm_out, weights.heads)]
        self._library.model_set_ends(self._model, *(tensor.data_ptr() for tensor in ends))
        for index, layer in enumerate(weights.layers):
            tensors = [None if t is None else plain(t) for t in _tensors(layer)]
            pointers = _LayerTensors(*(None if t is None else t.data_ptr() for t in tensors))
            self._library.model_set_layer(self._model, index, ctypes.byref(pointers))

    def set_conditioning(self, slot: int, conditioning: Conditioning) -> Sequence[int]:
        dim, length = self._config.dim, conditioning.prefix_length
        texts = [torch.empty(0, dim) if one is None else plain(one) for one in conditioning.cross]
        prefix = None if conditioning.prefix is None else plain(conditioning.prefix)
        conditioning = replace(conditioning, prefix=prefix)
        check(0 <= slot < len(self._rows) and 0 < len(texts) <= SLOT_ROWS)
        check(all(one.shape[1] == dim and len(one) <= MAX_TOKENS for one in texts))
        check(prefix is None or prefix.shape == (len(texts), length, dim))
        check(length < self._positions)
        shared = conditioning.shared(self._conditionings.get(slot, conditioning))
        shared += [0] * (SLOT_ROWS - len(shared))
        self._known[slot] = np.minimum(self._known[slot], shared)
        self._rows[slot], self._prefixes[slot] = len(texts), length
        self._conditionings[slot] = conditioning
        start = None if prefix is None else prefix.data_ptr()
        self._library.model_set_slot(self._model, slot, len(texts), length, start)
        for row, text in enumerate(texts):
            self._library.model_set_text(self._model, slot, row, len(text), text.data_ptr())
        known: list[int] = self._known[slot].tolist()
        return known

    def copy_row(self, source: int, slot: int, row: int, end: int) -> None:
        check(0 <= min(source, slot) <= max(source, slot) < len(self._rows))
        check(0 <= row < SLOT_ROWS and 0 <= end <= self._positions)
        self._library.model_copy_row(self._model, source, slot, row, end)

    def forward(self, batch: ModelInput) -> Tensor:
        config, tokens = self._config, batch.tokens
        slots, starts, lengths = batch.slots, batch.starts, batch.lengths
        check(((slots >= 0) & (slots < len(self._rows))).all())
        rows, prefixes = self._rows[slots], self._prefixes[slots]
        check((rows > 0).all() and (starts >= -prefixes).all() and (lengths > 0).all())
        check((prefixes + starts + lengths <= self._positions).all())
        check(tokens.shape == (config.codebooks, lengths.sum()))
        check((tokens.min() >= 0) & (tokens.max() <= config.vocab_size))
        check((rows * lengths).sum() <= self._max_rows)
        known = self._take_known(slots, starts, lengths)
        logits = torch.empty(int(rows.sum()), config.codebooks, config.vocab_size)
        numbers = [
            np.ascontiguousarray(array, np.int32)
            for array in (slots, starts, lengths, known, tokens)
        ]
        pointers = [array.ctypes.data for array in numbers]
        self._library.model_forward(
            self._model, len(slots), *pointers, tokens.shape[1], logits.data_ptr()
        )
        return logits

    def _take_known(self, slots: Integers, starts: Integers, lengths: Integers) -> Integers:
        """[n, rows]: how many of the batch's positions each row of a sequence has in the cache. The
        last one is always computed, for its logits. Afterwards the cache has all of them."""
        prefixes, known = self._prefixes[slots, None], self._known[slots]
        first, lengths = prefixes + starts[:, None], lengths[:, None]
        end = np.minimum(first + lengths, prefixes)
        self._known[slots] = np.where(first <= known, np.maximum(known, end), known)
        taken: Integers = np.clip(known - first, 0, lengths - 1)
        return taken


def _tensors(layer: LayerWeights) -> list[Tensor | None]:
    """In the order of _LayerTensors."""

    def attention(weights: AttentionWeights | None) -> list[Tensor | None]:
        return [*weights.norm, weights.qkv, weights.out] if weights else [None] * 4

    return [
        *attention(layer.self_attention),
        *attention(layer.cross_attention),
        *layer.norm_ffn,
        layer.ffn_in,
        layer.ffn_out,
    ]
