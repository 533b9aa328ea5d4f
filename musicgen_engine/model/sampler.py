"""Samples each sequence's next codes, with its own settings and its own random numbers.

The sampling is audiocraft's, with random numbers that depend on seed, frame, codebook and token
alone. The token with the largest p / E is sampled, where E is exponential: torch.multinomial
samples in the same way. Each sequence's arithmetic is its own, so that its codes do not depend on
its batch mates. Nothing here waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

import torch
from torch import Tensor

from musicgen_engine.model.backend import to_device
from musicgen_engine.model.guidance import CLASSIFIER_FREE, MAX_ROWS, Guidance, combine
from musicgen_engine.model.one_thread import one_thread
from musicgen_engine.model.rng import exponential
from protocol.request import GenerationRequest

NOT_FINITE = -1  # instead of a code
MIN_TEMPERATURE = 0.01  # less takes the likeliest token: a quotient of logits could overflow


@dataclass(frozen=True)
class Settings:
    """The settings of n slots, on the device. They go with [n, codebooks, vocab_size]."""

    seed: Tensor  # int64 [n]
    rows: Tensor  # int64 [n]: guidance rows
    guidance: Tensor  # float32 [n, MAX_ROWS - 1]: coefficients, see `combine`
    temperature: Tensor  # float32 [n, codebooks, 1]; 0 is greedy
    top_k: Tensor  # int64 [n, codebooks, 1]; the vocabulary's size keeps every token
    top_p: Tensor  # float32 [n, codebooks, 1]; infinity keeps every token

    @classmethod
    def zeros(cls, slots: int, codebooks: int, device: torch.device) -> Settings:
        shape = (slots, codebooks, 1)
        return cls(
            seed=torch.zeros(slots, dtype=torch.int64, device=device),
            rows=torch.ones(slots, dtype=torch.int64, device=device),
            guidance=torch.zeros(slots, MAX_ROWS - 1, device=device),
            temperature=torch.zeros(shape, device=device),
            top_k=torch.ones(shape, dtype=torch.int64, device=device),
            top_p=torch.zeros(shape, device=device),
        )

    def first(self, n: int) -> Settings:
        """Those of the first slots, at the same places."""
        return Settings(*(field[:n] for field in vars(self).values()))

    def of(self, slots: Tensor) -> Settings:
        return Settings(*(field.index_select(0, slots) for field in vars(self).values()))


@dataclass(frozen=True)
class Filters:
    """Which settings a sampling must heed, for one slot or several. The host knows them, so that it
    need not ask the device.

    top_k: the largest one below the vocabulary's size; 0 for none.
    """

    sampled: bool
    greedy: bool
    top_k: int
    top_p: bool

    def __or__(self, other: Filters) -> Filters:
        return Filters(
            self.sampled or other.sampled,
            self.greedy or other.greedy,
            max(self.top_k, other.top_k),
            self.top_p or other.top_p,
        )


class Sampler:
    """The settings of all slots, and sampling with them."""

    def __init__(
        self,
        slots: int,
        codebooks: int,
        vocab_size: int,
        device: torch.device,
    ) -> None:
        self.settings = Settings.zeros(slots, codebooks, device)
        self._vocab_size = vocab_size
        self._filters = [Filters(sampled=False, greedy=True, top_k=0, top_p=False)] * slots
        self._rows = [CLASSIFIER_FREE.rows] * slots

    @torch.inference_mode()
    def set_request(
        self, slot: int, request: GenerationRequest, guidance: Guidance = CLASSIFIER_FREE
    ) -> None:
        """Sample `slot` with the settings of `request` from now on. top_p rules out top_k, as in
        audiocraft."""
        greedy = request.temperature < MIN_TEMPERATURE
        top_p = request.top_p if request.top_p > 0 and not greedy else math.inf
        unfiltered = greedy or request.top_k == 0 or request.top_p > 0
        top_k = self._vocab_size if unfiltered else min(request.top_k, self._vocab_size)
        settings = self.settings
        settings.seed[slot] = request.seed
        settings.rows[slot] = guidance.rows
        settings.guidance[slot] = 0
        for row, weight in enumerate(guidance.weights):
            settings.guidance[slot, row] = weight * request.cfg_coef
        settings.temperature[slot] = 0.0 if greedy else request.temperature
        settings.top_k[slot] = top_k
        settings.top_p[slot] = top_p
        self._filters[slot] = Filters(
            not greedy, greedy, top_k if top_k < self._vocab_size else 0, top_p < math.inf
        )
        self._rows[slot] = guidance.rows

    def filters(self, slots: Sequence[int]) -> Filters:
        return reduce(or_, [self._filters[slot] for slot in slots])

    @torch.inference_mode()
    @one_thread()
    def sample(self, logits: Tensor, slots: Sequence[int], frames: Tensor) -> Tensor:
        """The next codes of n sequences.

        Args:
            logits: float32 [guidance rows, codebooks, vocab_size], sequence after sequence; those
                of others may follow.
            slots: the n slots.
            frames: int64 [n, codebooks], on the host: the absolute frame of each code.

        Returns:
            int64 [n, codebooks]; NOT_FINITE for a sequence whose logits are not all finite.
        """
        index, frames = (
            to_device(torch.tensor(slots), logits.device),
            to_device(frames, logits.device),
        )
        settings = self.settings.of(index)
        rows = [self._rows[slot] for slot in slots]
        guided = combine(logits[: sum(rows)], rows, settings.guidance)
        return draw(guided, settings, frames, self.filters(slots))


def draw(guided: Tensor, settings: Settings, frames: Tensor, filters: Filters) -> Tensor:
    """Codes [n, codebooks], or NOT_FINITE, by guided logits: float32 [n, codebooks, vocab_size]."""
    finite = guided.sum(dim=(1, 2), keepdim=True).isfinite()  # a sum hides no NaN
    return torch.where(finite[..., 0], _draw(guided, settings, frames, filters), NOT_FINITE)


def _draw(guided: Tensor, settings: Settings, frames: Tensor, filters: Filters) -> Tensor:
    if not filters.sampled:
        return guided.argmax(-1)
    probabilities = torch.softmax(guided / settings.temperature, dim=-1)
    if filters.top_k:
        probabilities = _keep_top_k(probabilities, settings.top_k, filters.top_k)
    if filters.top_p:
        probabilities = _keep_top_p(probabilities, settings.top_p)
    race = probabilities / exponential(settings.seed, frames, guided.shape[-1])
    sampled = race.argmax(-1)
    if filters.greedy:  # their probabilities are not numbers
        return torch.where(settings.temperature[..., 0] == 0, guided.argmax(-1), sampled)
    return sampled


def _keep_top_k(probabilities: Tensor, top_k: Tensor, most: int) -> Tensor:
    """Keep all tokens that are at least as likely as the k-th; keep every token where k is over
    `most`."""
    best = probabilities.topk(most).values  # [n, codebooks, most], falling
    least = best.gather(-1, top_k.clamp(max=most) - 1) * (top_k <= most)
    return probabilities * (probabilities >= least)


def _keep_top_p(probabilities: Tensor, top_p: Tensor) -> Tensor:
    """Keep a token until the likelier ones together have more than top_p."""
    falling, order = probabilities.sort(dim=-1, descending=True)
    kept = falling * (falling.cumsum(-1) - falling <= top_p)
    return torch.zeros_like(probabilities).scatter_(-1, order, kept)
