"""The library of native code (kernels/), and what all that call it share."""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_void_p
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import kernels
from musicgen_engine.model.backend import BackendUnavailable

LANES = 16  # all sizes are multiples of it
MAX_THREADS = 64
SIGNATURES = {
    "model_new": [c_void_p, c_int32],
    "model_free": [c_void_p],
    "model_set_ends": [c_void_p] * 6,
    "model_set_layer": [c_void_p, c_int32, c_void_p],
    "model_set_slot": [c_void_p, c_int32, c_int32, c_int32, c_void_p],
    "model_set_text": [c_void_p, c_int32, c_int32, c_int32, c_void_p],
    "model_copy_row": [c_void_p, *[c_int32] * 4],
    "model_forward": [c_void_p, c_int32, *[c_void_p] * 5, c_int32, c_void_p],
    "codec_new": [c_int32] * 5,
    "codec_free": [c_void_p],
    "codec_set_convolution": [c_void_p, c_int32, c_int32, *[c_void_p] * 3],
    "codec_set_lstm": [c_void_p, c_int32, *[c_void_p] * 3],
    "codec_convolve": [c_void_p, c_int32, c_int32, c_void_p, c_void_p],
    "codec_recur": [c_void_p, c_int32, c_int32, *[c_void_p] * 4],
    "sampler_sample": [c_void_p, c_int32, *[c_void_p] * 4],
}


def library() -> ctypes.CDLL:
    """The native code for this processor. Raises BackendUnavailable where it is not built."""
    built = kernels.library()
    if built is None:
        raise BackendUnavailable("is not built: run `python -m kernels.build`")
    return _loaded(built)


@lru_cache
def _loaded(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for name, arguments in SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes = arguments
        function.restype = c_void_p if name.endswith("_new") else None
    return library


def check(in_range: bool | np.bool_) -> None:
    """Native code does not check sizes and numbers: its callers do. Raises ValueError."""
    if not in_range:
        raise ValueError("a number for the native code is out of range")


def plain(tensor: Tensor) -> Tensor:
    """As native code reads it."""
    return tensor.detach().to("cpu", torch.float32).contiguous()
