"""A linear codec: an MDCT, of which a principal component analysis keeps what matters."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from protocol.request import SAMPLES_PER_FRAME as HOP

WINDOW = 2 * HOP
# Weights of the bins: loud low ones count less than their energy, soft high ones more.
WHITENING = 0.25
QUIET = 0.1  # scale of the features; see codec.py


@dataclass(frozen=True)
class Transform:
    """float32 [dimension, 1280] each: features of a window, and the window that they stand for."""

    analysis: Tensor
    synthesis: Tensor

    def __call__(self, audio: Tensor) -> Tensor:
        """[..., samples] -> [..., frames, dimension]"""
        return windows(audio) @ self.analysis.T


def fit(audio: Tensor, dimension: int) -> Transform:
    """The best one of its size for `audio` [songs, samples]."""
    bins = (windows(audio) @ mdct().T).flatten(0, 1)
    energy = bins.square().mean(0)
    weight = (energy + 1e-4 * energy.mean()) ** -WHITENING
    _values, vectors = torch.linalg.eigh((bins * weight).T.double() @ (bins * weight).double())
    basis = vectors[:, -dimension:].flip(1).float()  # [bins, dimension], the greatest first
    return Transform(QUIET * (basis.T * weight) @ mdct(), (basis.T / weight) @ mdct() / QUIET)


def mdct() -> Tensor:
    """float32 [640 bins, 1280 samples], orthogonal with an overlap of one half.

    With a sine window: Princen, Johnson and Bradley, 1987.
    """
    n = torch.arange(WINDOW, dtype=torch.float64) + 0.5
    bins = torch.arange(HOP, dtype=torch.float64)[:, None] + 0.5
    window = torch.sin(math.pi * n / WINDOW)
    return (math.sqrt(2 / HOP) * torch.cos(math.pi / HOP * (n + HOP / 2) * bins) * window).float()


def windows(audio: Tensor) -> Tensor:
    """[..., samples] -> [..., frames, 1280]; frame t is centred on its own 640 samples."""
    return F.pad(audio, (HOP // 2, HOP // 2)).unfold(-1, WINDOW, HOP)
