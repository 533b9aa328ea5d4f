"""A backend proves at load that it computes the same as eager."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import reduce
from itertools import repeat
from operator import add
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from musicgen_engine.model.backend import Backend, BackendUnavailable, ModelInput
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.decoder import DecodeInput
from musicgen_engine.model.delay_pattern import DelayPattern, Window
from musicgen_engine.model.graph import Capture, GraphDecoder
from musicgen_engine.model.linear import PlainLinear
from musicgen_engine.model.sampler import Sampler
from musicgen_engine.model.streaming_codec import StreamingCodec
from musicgen_engine.model.transformer import Transformer, TransformerConfig, Weights
from protocol.request import GenerationRequest

POSITIONS = 24
FRAMES = 8
# Of the largest logit. Another order of adding up differs by far less; in int8 it turns the
# rounding of single numbers.
TOLERANCE = {torch.int8: 2e-2, torch.float16: 2e-2, torch.bfloat16: 1e-1}
DEFAULT_TOLERANCE = 1e-3
CODEC_TOLERANCE = 1e-4  # of the loudest sample

USUAL = GenerationRequest("", POSITIONS, seed=0, top_k=250)
UNUSUAL = replace(USUAL, top_p=0.9)
SETTINGS = [USUAL, UNUSUAL, replace(USUAL, top_k=0), replace(USUAL, temperature=0.0)]

log = logging.getLogger("engine")
T = TypeVar("T")


class NewBackend(Protocol):
    def __call__(
        self,
        weights: Weights,
        slots: int,
        positions: int,
        device: torch.device,
        precision: torch.dtype,
    ) -> Backend: ...


def attempt(make: Callable[[], T]) -> tuple[T | None, str | None]:
    """The result of `make`, or else its fault."""
    try:
        return make(), None
    except BackendUnavailable as reason:
        return None, str(reason)
    except Exception as error:
        log.exception("the backend failed on its trial")
        return None, f"fails: {type(error).__name__}"


def prove_backend(
    candidate: NewBackend, weights: Weights, device: torch.device, precision: torch.dtype
) -> None:
    """Compare a backend's logits with those of eager, on random codes.

    Raises:
        BackendUnavailable: they differ.
    """
    size = (weights, 2, POSITIONS, device, precision)
    logits = torch.cat(list(_trial(candidate(*size), weights)))
    expected = torch.cat(list(_trial(Transformer(*size, linear=PlainLinear), weights)))
    _compare(logits, expected, TOLERANCE.get(precision, DEFAULT_TOLERANCE))


def _trial(backend: Backend, weights: Weights) -> Iterator[Tensor]:
    """The logits of two sequences: one is prefilled in a chunk, both are decoded."""
    config, random = weights.config, np.random.default_rng(0)
    tokens = random.integers(0, config.vocab_size + 1, (config.codebooks, POSITIONS))
    for slot, known in ((0, 8), (1, 0)):
        conditioning = _conditioning(slot, config)
        backend.set_conditioning(slot, conditioning)
        before = conditioning.prefix_length
        if before + known:
            yield backend.forward(ModelInput.of(tokens[:, : before + known], [slot], start=-before))
    for position in range(8, 12):
        first, second = position, position - 8
        yield backend.forward(
            ModelInput.of(tokens[:, [first]], [0], start=first)
            + ModelInput.of(tokens[:, [second]], [1], start=second)
        )


def proved_codec(
    native: Callable[[StreamingCodec], StreamingCodec],
    codec: StreamingCodec,
    codebooks: int,
    vocab_size: int,
) -> StreamingCodec:
    """The codec in native code, whose samples of random codes are those of the plain one.

    Raises:
        BackendUnavailable: they differ.
    """
    shape = (codebooks, FRAMES)
    codes = np.random.default_rng(0).integers(vocab_size, size=shape, dtype=np.int32)

    def samples(codec: StreamingCodec) -> Tensor:
        return torch.from_numpy(codec.stream().push(codes, last=True))

    candidate = native(codec)
    _compare(samples(candidate), samples(codec), CODEC_TOLERANCE)
    return candidate


class NewSampler(Protocol):
    def __call__(
        self, slots: int, codebooks: int, vocab_size: int, device: torch.device
    ) -> Sampler: ...


def prove_sampler(candidate: NewSampler, codebooks: int, vocab_size: int) -> None:
    """Compare a sampler's codes with those of torch, on random logits.

    Raises:
        BackendUnavailable: they differ.
    """
    n, random = len(SETTINGS), np.random.default_rng(0)
    noise = random.standard_normal((2 * n, codebooks, vocab_size), np.float32)
    logits = 3 * torch.from_numpy(noise)
    frames = torch.from_numpy(random.integers(0, 1_500, (n, codebooks)))

    def codes(new: NewSampler) -> Tensor:
        sampler = new(n, codebooks, vocab_size, logits.device)
        for slot, request in enumerate(SETTINGS):
            sampler.set_request(slot, replace(request, seed=slot))
        return sampler.sample(logits, range(n), frames)

    if not torch.equal(codes(candidate), codes(Sampler)):
        raise BackendUnavailable("samples other codes than torch")


def proved_graph(
    transformer: Transformer, sampler: Sampler, precision: torch.dtype, capture: Capture | None
) -> GraphDecoder:
    """Graphs whose logits are those of eager, and whose codes are those that the sampler finds in
    them: in each bucket, with usual settings and with others.

    Raises:
        BackendUnavailable: they differ.
    """
    decoder = GraphDecoder(transformer, sampler, capture)
    tolerance = TOLERANCE.get(precision, DEFAULT_TOLERANCE)
    for bucket in decoder.buckets:
        slots = sorted({0, bucket - 1})
        for request in (USUAL, UNUSUAL):
            for slot in slots:
                conditioning = _conditioning(slot, transformer.config)
                decoder.set_conditioning([slot], conditioning)
                decoder.set_request([slot], replace(request, seed=slot), conditioning.guidance)
            before = conditioning.prefix_length
            _prove_graph(decoder, transformer, sampler, slots, before, tolerance)
    return decoder


def _prove_graph(
    decoder: GraphDecoder,
    transformer: Transformer,
    sampler: Sampler,
    slots: list[int],
    before: int,
    tolerance: float,
) -> None:
    """Prefill `before` positions of a prefix and random codes, and decode two positions at a time.
    Eager computes the same positions again, in the same slots."""
    config, prompt = transformer.config, 4
    pattern = DelayPattern(tuple(range(config.codebooks)), config.vocab_size, POSITIONS)
    window = Window(pattern, start=0, length=POSITIONS, prompt=prompt)
    shape = (len(slots), config.codebooks, POSITIONS)
    songs = np.random.default_rng(0).integers(0, config.vocab_size, shape, np.int32)
    each = [[slot] for slot in slots]

    def known(position: int, count: int) -> ModelInput:
        tokens = (window.tokens(codes, position, count) for codes in songs)
        return reduce(add, map(ModelInput.of, tokens, each, repeat(position)))

    decoder.prefill(known(-before, before + prompt))
    for position in range(prompt, POSITIONS, 2):
        inputs = [
            DecodeInput(of, window, position, codes) for of, codes in zip(each, songs, strict=True)
        ]
        made = decoder.decode(inputs, 2, None)()
        logits = decoder.logits[slots].flatten(0, 1)
        for index, codes in enumerate(songs):
            window.write(codes, position, made[:, index])
        _compare(logits, transformer.forward(known(position, 2)), tolerance)
        frames = torch.from_numpy(np.stack([window.frames(position + 1)] * len(slots)))
        if not np.array_equal(made[1], sampler.sample(logits, slots, frames).cpu()):
            raise BackendUnavailable("samples other codes than eager")


def _conditioning(slot: int, config: TransformerConfig) -> Conditioning:
    """Without cross-attention it is a prefix."""
    noise = np.random.default_rng(slot).standard_normal((5, config.dim), np.float32)
    text = torch.from_numpy(noise)
    if config.cross_attention:
        return Conditioning((text, None))
    return Conditioning((None, None), torch.stack([text, -text]))


def _compare(result: Tensor, expected: Tensor, tolerance: float) -> None:
    """`tolerance`: of the largest number."""
    difference = float((result - expected).abs().max() / expected.abs().max())
    if not difference <= tolerance:
        raise BackendUnavailable(f"differs from eager by {difference:.2g}")
