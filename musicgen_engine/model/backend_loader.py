"""Chooses a backend, and lets it prove itself against eager before it serves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from musicgen_engine.model.backend import Backend, BackendUnavailable, ModelInput
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.delay_pattern import Integers
from musicgen_engine.model.linear import PackedLinear, PlainLinear
from musicgen_engine.model.native import NativeTransformer
from musicgen_engine.model.native_codec import native_codec
from musicgen_engine.model.streaming_codec import StreamingCodec
from musicgen_engine.model.transformer import Transformer, TransformerConfig, Weights

# In int8 a model with fewer parameters is hardly faster: its matrices fit into the caches.
SMALL = 20_000_000
PROOF_LAYERS = 2  # all layers have the same shapes: two show whether a backend computes right
PROOF_POSITIONS = 24
# Of the largest logit. Another order of adding up differs by far less; in int8 it turns the
# rounding of single numbers.
TOLERANCE = {torch.int8: 2e-2}
DEFAULT_TOLERANCE = 1e-3
PROOF_FRAMES = 8
CODEC_TOLERANCE = 1e-4  # of the loudest sample

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


def _packed(
    weights: Weights, slots: int, positions: int, device: torch.device, precision: torch.dtype
) -> Backend:
    if (device.type, precision) != ("cpu", torch.float32):
        raise BackendUnavailable("computes in float32 on a CPU")
    return Transformer(weights, slots, positions, device, precision, PackedLinear)


BACKENDS: dict[str, NewBackend] = {
    "eager": partial(Transformer, linear=PlainLinear),
    "packed": _packed,
    "native": NativeTransformer,
}


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

    def load(self, slots: int, positions: int, device: torch.device) -> Backend:
        return BACKENDS[self.name](self.weights, slots, positions, device, self.precision)


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
    for candidate, number in _candidates(name, precision, weights.config, device):
        eager = candidate == "eager"
        fault = None if eager else find_fault(backends[candidate], few, device, number)
        if not fault:
            break
        log.warning("the backend %s is put aside: it %s", candidate, fault)
        first_fault = first_fault or f"{candidate} {fault}"
    return Choice(candidate, number, first_fault, whole)


def _candidates(
    name: str, precision: torch.dtype | None, config: TransformerConfig, device: torch.device
) -> list[tuple[str, torch.dtype]]:
    """Backends and precisions, the best first; eager is the last."""
    if device.type != "cpu":
        number = precision or torch.float16
        named = [] if name in ("auto", "eager") else [name]
        return [(one, number) for one in (*named, "eager")]
    if name != "auto":
        names = list(dict.fromkeys([name, "eager"]))
    elif precision in (torch.float16, torch.bfloat16):
        names = ["eager"]
    else:
        names = ["native", "eager"] if precision == torch.int8 else ["native", "packed", "eager"]
    plain = precision or torch.float32
    native = precision or (torch.float32 if config.parameters < SMALL else torch.int8)
    return [(one, native if one == "native" else plain) for one in names]


def find_fault(
    candidate: NewBackend, weights: Weights, device: torch.device, precision: torch.dtype
) -> str | None:
    """The fault of a backend that differs from eager on random codes, or fails; else None."""

    def new(backend: NewBackend) -> Backend:
        return backend(weights, 2, PROOF_POSITIONS, device, precision)

    def logits(backend: Backend) -> Tensor:
        return torch.cat(list(_trial(backend, weights)))

    tolerance = TOLERANCE.get(precision, DEFAULT_TOLERANCE)
    _, fault = _proved(partial(new, candidate), partial(new, BACKENDS["eager"]), logits, tolerance)
    return fault


def _proved(
    candidate: Callable[[], T],
    eager: Callable[[], T],
    trial: Callable[[T], Tensor],
    tolerance: float,
) -> tuple[T, None] | tuple[None, str]:
    """The candidate if its trial gives what that of eager gives, else its fault."""
    try:
        made = candidate()
        result, expected = trial(made), trial(eager())
    except BackendUnavailable as reason:
        return None, str(reason)
    except Exception as error:
        log.exception("the backend failed on its trial")
        return None, f"fails: {type(error).__name__}"
    difference = float((result - expected).abs().max() / expected.abs().max())
    if difference <= tolerance:
        return made, None
    return None, f"differs from eager by {difference:.2g}"


def _trial(backend: Backend, weights: Weights) -> Iterator[Tensor]:
    """The logits of two sequences: one is prefilled in a chunk, both are decoded. Without
    cross-attention both have a prefix."""
    config, random = weights.config, np.random.default_rng(0)
    noise = torch.from_numpy(random.standard_normal((5, config.dim), np.float32))
    tokens = random.integers(0, config.vocab_size + 1, (config.codebooks, PROOF_POSITIONS))
    for slot, known in ((0, 8), (1, 0)):
        text = noise * (slot + 1)
        conditioning = (
            Conditioning((text, None))
            if config.cross_attention
            else Conditioning((None, None), torch.stack([text, -text]))
        )
        backend.set_conditioning(slot, conditioning)
        before = conditioning.prefix_length
        if before + known:
            yield backend.forward(_one(tokens[:, : before + known], slot, start=-before))
    for position in range(8, 12):
        pair = tokens[:, [position, position - 8]]
        slots, starts = np.array([0, 1]), np.array([position, position - 8])
        yield backend.forward(ModelInput(pair, slots, starts, np.array([1, 1])))


def _one(tokens: Integers, slot: int, start: int) -> ModelInput:
    numbers = (np.array([slot]), np.array([start]), np.array([tokens.shape[1]]))
    return ModelInput(tokens, *numbers)


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
    shape = (codebooks, PROOF_FRAMES)
    codes = np.random.default_rng(0).integers(vocab_size, size=shape, dtype=np.int32)

    def samples(codec: StreamingCodec) -> Tensor:
        return torch.from_numpy(codec.stream().push(codes, last=True))

    proved, fault = _proved(partial(native, codec), lambda: codec, samples, CODEC_TOLERANCE)
    if proved:
        return proved, None
    log.warning("the native code of the codec is put aside: it %s", fault)
    return codec, f"the codec's native code {fault}"
