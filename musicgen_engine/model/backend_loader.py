"""Chooses a backend, and lets it prove itself against eager before it serves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice

import torch

from musicgen_engine.model.backend import Backend, BackendUnavailable
from musicgen_engine.model.decoder import Decoder, HostDecoder
from musicgen_engine.model.graph import Capture
from musicgen_engine.model.linear import PackedLinear, PlainLinear
from musicgen_engine.model.native import NativeTransformer
from musicgen_engine.model.native_codec import native_codec
from musicgen_engine.model.native_sampler import NativeSampler
from musicgen_engine.model.proof import (
    NewBackend,
    NewSampler,
    attempt,
    prove_backend,
    prove_sampler,
    proved_codec,
    proved_graph,
)
from musicgen_engine.model.sampler import Sampler
from musicgen_engine.model.streaming_codec import StreamingCodec
from musicgen_engine.model.transformer import Transformer, TransformerConfig, Weights

# A model with fewer parameters is fast enough in float32, where its songs are audiocraft's.
SMALL = 20_000_000
PROOF_LAYERS = 2  # all layers have the same shapes: two show whether a backend computes right

log = logging.getLogger("engine")


def _packed(
    weights: Weights, slots: int, positions: int, device: torch.device, precision: torch.dtype
) -> Backend:
    if (device.type, precision) != ("cpu", torch.float32):
        raise BackendUnavailable("computes in float32 on a CPU")
    return Transformer(weights, slots, positions, device, precision, PackedLinear)


def _graph(
    weights: Weights, slots: int, positions: int, device: torch.device, precision: torch.dtype
) -> Transformer:
    """Eager, with a position in the cache that nothing reads, for the graphs. Attention is fastest
    over a multiple of 16."""
    places = -(-(positions + 1) // 16) * 16
    return Transformer(weights, slots, places, device, precision, PlainLinear)


BACKENDS: dict[str, NewBackend] = {
    "eager": partial(Transformer, linear=PlainLinear),
    "packed": _packed,
    "native": NativeTransformer,
    "graph": _graph,
}


@dataclass(frozen=True)
class Loaded:
    """A backend on its device, and its decoder; `fault` as in Choice."""

    name: str
    fault: str | None
    backend: Backend
    decoder: Decoder


@dataclass(frozen=True)
class Choice:
    """A backend and its precision.

    `fault` says why they are not the ones that were asked for; it is None if they are. `weights`
    are those of the whole model, whose layers can still be taken once.
    """

    name: str
    precision: torch.dtype
    fault: str | None
    weights: Weights

    @property
    def held(self) -> torch.dtype:
        """The precision of the numbers in memory. Torch computes int8 with rounded float32."""
        is_rounded = self.precision == torch.int8 and self.name != "native"
        return torch.float32 if is_rounded else self.precision

    def load(
        self, slots: int, positions: int, device: torch.device, capture: Capture | None = None
    ) -> Loaded:
        """Place the weights on the device. If the graphs fail, eager serves with the same weights.

        `capture` replaces the device's own.
        """
        config = self.weights.config
        backend = BACKENDS[self.name](self.weights, slots, positions, device, self.precision)
        new, sampler_fault = choose_sampler(self.name, config.codebooks, config.vocab_size)
        sampler = new(slots, config.codebooks, config.vocab_size, device)
        host = HostDecoder(backend, sampler)
        if self.name != "graph":
            return Loaded(self.name, self.fault or sampler_fault, backend, host)
        assert isinstance(backend, Transformer)
        graph, fault = attempt(partial(proved_graph, backend, sampler, self.precision, capture))
        if graph:
            return Loaded(self.name, self.fault, backend, graph)
        log.warning("the backend graph is put aside: it %s", fault)
        return Loaded("eager", f"graph {fault}", backend, host)


def choose_backend(
    name: str,
    precision: torch.dtype | None,
    weights: Weights,
    device: torch.device,
    backends: Mapping[str, NewBackend] = BACKENDS,
) -> Choice:
    """The first candidate that proves itself; eager, the last one, is the reference.

    Args:
        name: of a backend, or "auto".
        precision: None for the one that suits device and model.
    """
    layers = iter(weights.layers)
    first = list(islice(layers, PROOF_LAYERS))
    few = replace(weights, config=replace(weights.config, layers=len(first)), layers=first)
    whole = replace(weights, layers=chain(first, layers))
    first_fault = None
    for candidate, dtype in _candidates(name, precision, weights.config, device):
        if candidate in ("eager", "graph"):  # graphs prove themselves when they are captured
            break
        _, fault = attempt(partial(prove_backend, backends[candidate], few, device, dtype))
        if not fault:
            break
        log.warning("the backend %s is put aside: it %s", candidate, fault)
        first_fault = first_fault or f"{candidate} {fault}"
    return Choice(candidate, dtype, first_fault, whole)


def _candidates(
    name: str, precision: torch.dtype | None, config: TransformerConfig, device: torch.device
) -> list[tuple[str, torch.dtype]]:
    """Backends and precisions, the best first; eager is the last."""
    if device.type != "cpu":
        dtype = precision or torch.float16
        best = "graph" if name == "auto" else name
        return [(one, dtype) for one in dict.fromkeys([best, "eager"])]
    if name != "auto":
        names = list(dict.fromkeys([name, "eager"]))
    elif precision in (torch.float16, torch.bfloat16):
        names = ["eager"]
    else:
        names = ["native", "eager"] if precision == torch.int8 else ["native", "packed", "eager"]
    plain = precision or torch.float32
    native = precision or (torch.float32 if config.parameters < SMALL else torch.int8)
    return [(one, native if one == "native" else plain) for one in names]


def choose_sampler(
    backend: str, codebooks: int, vocab_size: int, native: NewSampler = NativeSampler
) -> tuple[NewSampler, str | None]:
    """Sampling in native code for the backend native, where the code proves itself; else in torch.
    With it, the fault of the native code, or None."""
    if backend != "native":
        return Sampler, None
    _, fault = attempt(partial(prove_sampler, native, codebooks, vocab_size))
    if not fault:
        return native, None
    log.warning("the native code of the sampler is put aside: it %s", fault)
    return Sampler, f"the sampler's native code {fault}"


def choose_codec(
    name: str,
    codec: StreamingCodec,
    codebooks: int,
    vocab_size: int,
    native: Callable[[StreamingCodec], StreamingCodec] = native_codec,
) -> tuple[StreamingCodec, str | None]:
    """The codec in native code, where the backend `name` may be native on a CPU and the code proves
    itself; else the plain one. With it, the fault of the native code, or None."""
    if codec.device.type != "cpu" or name not in ("auto", "native"):
        return codec, None
    proved, fault = attempt(partial(proved_codec, native, codec, codebooks, vocab_size))
    if proved:
        return proved, None
    log.warning("the native code of the codec is put aside: it %s", fault)
    return codec, f"the codec's native code {fault}"
