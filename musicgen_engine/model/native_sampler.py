"""Sampling in native code (kernels/sampler.cpp)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_int32, c_void_p

import numpy as np
import torch
from torch import Tensor

from musicgen_engine.model.backend import BackendUnavailable
from musicgen_engine.model.guidance import MAX_ROWS
from musicgen_engine.model.native_library import LANES, check, library
from musicgen_engine.model.sampler import Sampler

MAX_VOCAB = 4_096
_TENSORS = ("seed", "rows", "guidance", "temperature", "top_k", "top_p")


class _Settings(ctypes.Structure):
    """See sampler.cpp."""

    _fields_ = [
        *((name, c_int32) for name in ("codebooks", "vocab_size", "most_rows")),
        *((name, c_void_p) for name in _TENSORS),
    ]


class NativeSampler(Sampler):
    """The same sampling. Its codes differ only where two tokens are as good but for rounding.

    Raises:
        BackendUnavailable: the native code is not built, or lacks the vocabulary.
    """

    def __init__(self, slots: int, codebooks: int, vocab_size: int, device: torch.device) -> None:
        super().__init__(slots, codebooks, vocab_size, device)
        if vocab_size > MAX_VOCAB or vocab_size % LANES:
            raise BackendUnavailable(f"needs at most {MAX_VOCAB} tokens, a multiple of {LANES}")
        self._library, self._slots = library(), slots
        pointers = (getattr(self.settings, name).data_ptr() for name in _TENSORS)
        self._native = _Settings(codebooks, vocab_size, MAX_ROWS, *pointers)

    def sample(self, logits: Tensor, slots: Sequence[int], frames: Tensor) -> Tensor:
        native, numbers = self._native, np.array(slots)
        shape = (native.codebooks, native.vocab_size)
        check(((numbers >= 0) & (numbers < self._slots)).all())
        check(logits.shape[1:] == shape and frames.shape == (len(slots), native.codebooks))
        check(len(logits) >= sum(self._rows[slot] for slot in slots))
        logits, frames = logits.contiguous(), frames.contiguous()
        codes = torch.empty_like(frames)
        self._library.sampler_sample(
            ctypes.byref(native), len(slots), numbers.ctypes.data, logits.data_ptr(),
            frames.data_ptr(), codes.data_ptr(),
        )  # fmt: skip
        return codes
