"""A linear codec: an MDCT, reduced by a principal component analysis."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from protocol.constants import SAMPLES_PER_FRAME as HOP

WINDOW = 2 * HOP
# Exponent of the bins' weights: lowers loud low bins, raises soft high ones.
WHITENING = 0.25
FEATURE_SCALE = 0.1  # small, because the ELUs of codec.py are linear near 0


@dataclass(frozen=True)
class Transform:
    """float32 [dimension, 1280] each: from a window to its features, and back."""

    analysis: Tensor
    synthesis: Tensor

    def __call__(self, audio: Tensor) -> Tensor:
        """[..., samples] -> [..., frames, dimension]"""
        return windows(audio) @ self.analysis.T


def fit(audio: Tensor, dimension: int) -> Transform:
    """The best transform of this dimension for `audio` [songs, samples]."""
    bins = (windows(audio) @ mdct().T).flatten(0, 1)
    energy = bins.square().mean(0)
    weight = (energy + 1e-4 * energy.mean()) ** -WHITENING
    _values, vectors = torch.linalg.eigh((bins * weight).T.double() @ (bins * weight).double())
    basis = vectors[:, -dimension:].flip(1).float()  # [bins, dimension], the largest first
    analysis = FEATURE_SCALE * (basis.T * weight) @ mdct()
    return Transform(analysis, (basis.T / weight) @ mdct() / FEATURE_SCALE)


def mdct() -> Tensor:
    """float32 [640 bins, 1280 samples], orthogonal with an overlap of one half.

    The window is a sine: Princen, Johnson and Bradley, 1987.
    """
    n = torch.arange(WINDOW, dtype=torch.float64) + 0.5
    bins = torch.arange(HOP, dtype=torch.float64)[:, None] + 0.5
    window = torch.sin(math.pi * n / WINDOW)
    return (math.sqrt(2 / HOP) * torch.cos(math.pi / HOP * (n + HOP / 2) * bins) * window).float()


def windows(audio: Tensor) -> Tensor:
    """[..., samples] -> [..., frames, 1280]; frame t is centred on its own 640 samples."""
    return F.pad(audio, (HOP // 2, HOP // 2)).unfold(-1, WINDOW, HOP)
