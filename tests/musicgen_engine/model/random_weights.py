"""Small transformers with random weights, and how to run them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from musicgen_engine.model.backend import Backend, ModelInput
from musicgen_engine.model.backend_loader import BACKENDS
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.delay_pattern import Integers
from musicgen_engine.model.positions import frequencies
from musicgen_engine.model.transformer import (
    AttentionWeights,
    LayerWeights,
    TransformerConfig,
    Weights,
)

DIM, CODEBOOKS, VOCAB_SIZE = 64, 2, 56
POSITIONS = 40
TOKENS = np.random.default_rng(0).integers(0, VOCAB_SIZE + 1, (CODEBOOKS, POSITIONS))


def config(**changes: Any) -> TransformerConfig:
    shape = {"layers": 2, "dim": DIM, "heads": 4, "ffn_dim": 128, "rotary": False, **changes}
    return TransformerConfig(codebooks=CODEBOOKS, vocab_size=VOCAB_SIZE, **shape)


def weights(config: TransformerConfig) -> Weights:
    """The same for the same config."""
    generator = torch.Generator().manual_seed(0)

    def matrix(rows: int, columns: int) -> Tensor:
        numbers = torch.randn(rows, columns, generator=generator)
        return numbers / math.sqrt(columns)

    def norm() -> tuple[Tensor, Tensor]:
        noise = 0.2 * torch.randn(2, config.dim, generator=generator)
        return 1 + noise[0], noise[1]

    def attention() -> AttentionWeights:
        return AttentionWeights(
            norm(), matrix(3 * config.dim, config.dim), matrix(config.dim, config.dim)
        )

    def layers() -> Iterator[LayerWeights]:
        for _ in range(config.layers):
            yield LayerWeights(
                self_attention=attention(),
                cross_attention=attention() if config.cross_attention else None,
                norm_ffn=norm(),
                ffn_in=matrix(config.ffn_dim, config.dim),
                ffn_out=matrix(config.dim, config.ffn_dim),
            )

    tokens = config.codebooks * (config.vocab_size + 1)
    embeddings = torch.randn(tokens, config.dim, generator=generator)
    return Weights(
        config,
        embeddings.view(config.codebooks, -1, config.dim),
        list(layers()),
        norm(),
        matrix(config.codebooks * config.vocab_size, config.dim),
        frequencies(config.head_dim) if config.rotary else None,
    )


def backend(config: TransformerConfig, of: Weights | None = None) -> Backend:
    new, cpu = BACKENDS["packed"], torch.device("cpu")
    return new(of or weights(config), 4, POSITIONS, cpu, torch.float32)


def text(seed: int = 0, tokens: int = 5, width: int = DIM) -> Tensor:
    return torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed))


def conditioning(seed: int = 0) -> Conditioning:
    return Conditioning((text(seed), None))


def batch(*sequences: tuple[int, int, Integers]) -> ModelInput:
    """Of (slot, start, tokens) for each sequence."""
    slots, starts, tokens = zip(*sequences, strict=True)
    return ModelInput(
        np.concatenate(tokens, axis=1),
        np.array(slots),
        np.array(starts),
        np.array([part.shape[1] for part in tokens]),
    )


def begin(backend: Backend, slot: int, conditioning: Conditioning) -> None:
    """Condition the slot, and compute its prefix in one chunk."""
    backend.set_conditioning(slot, conditioning)
    if length := conditioning.prefix_length:
        backend.forward(batch((slot, -length, TOKENS[:, :length])))


def feed(backend: Backend, slot: int, chunks: Sequence[int], start: int = 0) -> Tensor:
    """The logits [rows, codebooks, vocab_size] after each chunk of TOKENS: [chunks, ...]."""
    logits = []
    for length in chunks:
        logits.append(backend.forward(batch((slot, start, TOKENS[:, start : start + length]))))
        start += length
    return torch.stack(logits)


def run(backend: Backend, conditioning: Conditioning, slot: int = 0) -> Tensor:
    """The logits after each of the first positions: a chunk of 6, then one at a time."""
    begin(backend, slot, conditioning)
    return feed(backend, slot, [6, 1, 1, 1, 1])
