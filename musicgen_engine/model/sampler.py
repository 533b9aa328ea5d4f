"""Draws each song's next codes, by its own settings and its own noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from musicgen_engine.model.rng import exponential
from musicgen_engine.model.transfer import sent
from protocol.request import Song


@dataclass(frozen=True)
class _Filter:
    """What the host must know of a slot's song, so that it need not ask the device."""

    greedy: bool
    top_k: int
    top_p: float

    @classmethod
    def of(cls, song: Song, card: int) -> _Filter:
        """top_p rules out top_k, as in audiocraft; `card` and infinity keep every token."""
        greedy = song.temperature == 0
        top_p = song.top_p if song.top_p > 0 and not greedy else math.inf
        plain = greedy or song.top_k == 0 or song.top_p > 0
        return cls(greedy, card if plain else min(song.top_k, card), top_p)


class Sampler:
    """audiocraft's sampling, with noise that depends on seed, frame, codebook and token alone.

    A token wins a race with the chance p / sum(p) if it runs for E / p, E exponential: this is how
    torch.multinomial draws too. Each row's arithmetic is its own, so that a song does not depend,
    not even in its last bit, on the songs beside it. Nothing here waits for the device.
    """

    def __init__(self, slots: int, codebooks: int, card: int, device: torch.device) -> None:
        self._card = card
        self._filters = [_Filter(greedy=True, top_k=card, top_p=math.inf)] * slots
        self._seed = torch.zeros(slots, dtype=torch.int64, device=device)
        numbers = (slots, codebooks, 1)  # to go with [n, K, card]
        self._top_k = torch.zeros(numbers, dtype=torch.int64, device=device)
        self._temperature = torch.zeros(numbers, device=device)
        self._top_p = torch.zeros(numbers, device=device)
        self._cfg_coef = torch.zeros(numbers, device=device)

    def put(self, slot: int, song: Song) -> None:
        """From now on the slot plays this song."""
        filter = _Filter.of(song, self._card)
        self._filters[slot] = filter
        self._seed[slot] = song.seed
        self._top_k[slot] = filter.top_k
        self._temperature[slot] = song.temperature
        self._top_p[slot] = filter.top_p
        self._cfg_coef[slot] = song.cfg_coef

    def draw(self, logits: Tensor, slots: Sequence[int], frames: Tensor) -> Tensor:
        """The next codes.

        Args:
            logits: float32 [2, n, K, card]: with the text, and without.
            slots: the rows' n slots.
            frames: int64 [n, K], on the host: the absolute frame of each code.

        Returns:
            int64 [n, K].
        """
        filters = [self._filters[slot] for slot in slots]
        rows, frames = sent(torch.tensor(slots), logits.device), sent(frames, logits.device)
        with_text, without = logits[0], logits[1]
        guided = without + (with_text - without) * self._cfg_coef[rows]  # [n, K, card]
        if all(filter.greedy for filter in filters):
            return guided.argmax(-1)

        temperature = self._temperature[rows]
        chances = torch.softmax(guided / temperature, dim=-1)
        if any(filter.top_k < self._card for filter in filters):
            most = max(filter.top_k for filter in filters if filter.top_k < self._card)
            chances = _keep_top_k(chances, self._top_k[rows], most)
        if any(filter.top_p < math.inf for filter in filters):
            chances = _keep_top_p(chances, self._top_p[rows])
        drawn = (chances / exponential(self._seed[rows], frames, self._card)).argmax(-1)
        if any(filter.greedy for filter in filters):  # whose chances are not numbers
            return torch.where(temperature[..., 0] == 0, guided.argmax(-1), drawn)
        return drawn


def _keep_top_k(chances: Tensor, top_k: Tensor, most: int) -> Tensor:
    """Tokens as likely as the k-th stay, be they more than k; all stay where k is above `most`."""
    best = chances.topk(most).values  # [n, K, most], falling
    least = best.gather(-1, top_k.clamp(max=most) - 1) * (top_k <= most)
    return chances * (chances >= least)


def _keep_top_p(chances: Tensor, top_p: Tensor) -> Tensor:
    """Tokens stay until those before them, from the likeliest on, have more than top_p."""
    falling, order = chances.sort(dim=-1, descending=True)
    kept = falling * (falling.cumsum(-1) - falling <= top_p)
    return torch.zeros_like(chances).scatter_(-1, order, kept)
