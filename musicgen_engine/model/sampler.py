"""Samples each sequence's next codes, with its own settings and its own random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from musicgen_engine.model.backend import to_device
from musicgen_engine.model.guidance import CLASSIFIER_FREE, Guidance, combine
from musicgen_engine.model.one_thread import one_thread
from musicgen_engine.model.rng import exponential
from protocol.request import GenerationRequest

NOT_FINITE = -1  # instead of a code
MIN_TEMPERATURE = 0.01  # less takes the likeliest token: a quotient of logits could overflow


@dataclass(frozen=True)
class _Filter:
    """The settings of a slot that the host needs, so that it need not ask the device."""

    greedy: bool
    top_k: int
    top_p: float
    rows: int

    @classmethod
    def of(cls, request: GenerationRequest, guidance: Guidance, vocab_size: int) -> _Filter:
        """top_p rules out top_k, as in audiocraft; `vocab_size` and infinity keep every token."""
        greedy = request.temperature < MIN_TEMPERATURE
        top_p = request.top_p if request.top_p > 0 and not greedy else math.inf
        unfiltered = greedy or request.top_k == 0 or request.top_p > 0
        top_k = vocab_size if unfiltered else min(request.top_k, vocab_size)
        return cls(greedy, top_k, top_p, guidance.rows)


class Sampler:
    """audiocraft's sampling, with random numbers that depend on seed, frame, codebook and token
    alone.

    The token with the largest p / E is sampled, where E is exponential: torch.multinomial samples
    in the same way. Each sequence's arithmetic is its own, so that its codes do not depend on its
    batch mates. Nothing here waits for the device.
    """

    def __init__(self, slots: int, codebooks: int, vocab_size: int, device: torch.device) -> None:
        self._vocab_size = vocab_size
        plain = _Filter(greedy=True, top_k=vocab_size, top_p=math.inf, rows=CLASSIFIER_FREE.rows)
        self._filters = [plain] * slots
        self._seed = torch.zeros(slots, dtype=torch.int64, device=device)
        shape = (slots, codebooks, 1)  # to go with [n, codebooks, vocab_size]
        self._top_k = torch.zeros(shape, dtype=torch.int64, device=device)
        self._temperature = torch.zeros(shape, device=device)
        self._top_p = torch.zeros(shape, device=device)
        self._guidance = torch.zeros(slots, 1, device=device)  # coefficients, see `combine`

    @torch.inference_mode()
    def set_request(
        self, slot: int, request: GenerationRequest, guidance: Guidance = CLASSIFIER_FREE
    ) -> None:
        """Sample `slot` with the settings of `request` from now on."""
        filter = _Filter.of(request, guidance, self._vocab_size)
        self._filters[slot] = filter
        self._seed[slot] = request.seed
        self._top_k[slot] = filter.top_k
        self._temperature[slot] = 0.0 if filter.greedy else request.temperature
        self._top_p[slot] = filter.top_p
        coefficients = torch.tensor(guidance.weights) * request.cfg_coef
        missing = len(coefficients) - self._guidance.shape[1]
        if missing > 0:
            self._guidance = torch.nn.functional.pad(self._guidance, (0, missing))
        self._guidance[slot, : len(coefficients)] = coefficients

    @torch.inference_mode()
    @one_thread()
    def sample(self, logits: Tensor, slots: Sequence[int], frames: Tensor) -> Tensor:
        """The next codes of n sequences.

        Args:
            logits: float32 [guidance rows, codebooks, vocab_size], sequence after sequence.
            slots: the n slots.
            frames: int64 [n, codebooks], on the host: the absolute frame of each code.

        Returns:
            int64 [n, codebooks]; NOT_FINITE for a sequence whose logits are not all finite.
        """
        filters = [self._filters[slot] for slot in slots]
        index, frames = (
            to_device(torch.tensor(slots), logits.device),
            to_device(frames, logits.device),
        )
        guided = combine(logits, [filter.rows for filter in filters], self._guidance[index])
        codes = self._sample(guided, filters, index, frames)
        finite = guided.sum(dim=(1, 2), keepdim=True).isfinite()  # a sum hides no NaN
        return torch.where(finite[..., 0], codes, NOT_FINITE)

    def _sample(
        self, guided: Tensor, filters: Sequence[_Filter], index: Tensor, frames: Tensor
    ) -> Tensor:
        if all(filter.greedy for filter in filters):
            return guided.argmax(-1)

        temperature = self._temperature[index]
        probabilities = torch.softmax(guided / temperature, dim=-1)
        if any(filter.top_k < self._vocab_size for filter in filters):
            most = max(filter.top_k for filter in filters if filter.top_k < self._vocab_size)
            probabilities = _keep_top_k(probabilities, self._top_k[index], most)
        if any(filter.top_p < math.inf for filter in filters):
            probabilities = _keep_top_p(probabilities, self._top_p[index])
        race = probabilities / exponential(self._seed[index], frames, self._vocab_size)
        sampled = race.argmax(-1)
        if any(filter.greedy for filter in filters):  # their probabilities are not numbers
            return torch.where(temperature[..., 0] == 0, guided.argmax(-1), sampled)
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
