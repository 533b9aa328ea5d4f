"""The codec's decoder in native code (kernels/codec.cpp)."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterable, Iterator
from copy import copy
from ctypes import c_int32
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from musicgen_engine.model.backend import BackendUnavailable
from musicgen_engine.model.native_library import LANES, MAX_THREADS, check, library, plain
from musicgen_engine.model.streaming_codec import Convolutions, StreamingCodec

# Where the output of a convolution goes: in place of the input, beside it, or added to what was
# beside it.
REPLACE, BRANCH, JOIN = range(3)
MAX_FRAMES = 6_000  # of a call
State = tuple[Tensor, Tensor]


class _Shape(ctypes.Structure):
    """See codec.cpp."""

    _fields_ = [
        (name, c_int32)
        for name in (
            "inputs", "outputs", "taps", "step", "hop", "left", "right", "lead", "reflect", "elu",
            "place",
        )
    ]  # fmt: skip


@dataclass(frozen=True)
class _Layer:
    conv: nn.Conv1d | nn.ConvTranspose1d
    reflect: bool
    elu: bool  # before it
    place: int = REPLACE


def native_codec(codec: StreamingCodec) -> StreamingCodec:
    """The same codec, computed in native code.

    Raises:
        BackendUnavailable: the native code is not built, or lacks a part of the codec.
    """
    native = _NativeCodec(codec)
    fast = copy(codec)
    fast.before, fast.after = copy(codec.before), copy(codec.after)
    fast.before.module = _NativeConvolutions(native, 0, codec.before)
    fast.lstm = _NativeLstm(native)
    fast.after.module = _NativeConvolutions(native, 1, codec.after)
    return fast


class _NativeCodec:
    """The native object; the parts of a codec share it."""

    def __init__(self, codec: StreamingCodec) -> None:
        lstm = codec.lstm
        assert isinstance(lstm, nn.LSTM)
        self.layers, self.units = lstm.num_layers, lstm.hidden_size
        _require(codec.device.type == "cpu", "computes on a CPU")
        _require(
            lstm.bias and lstm.input_size == self.units and self.units % LANES == 0,
            "lacks the codec's LSTM",
        )
        stages = (codec.before, codec.after)
        stacks = [list(_layers(stage.module)) for stage in stages]
        self.library = library()
        self.pointer = self.library.codec_new(
            len(stacks[0]), self.layers, self.units, len(stacks[1]),
            min(torch.get_num_threads(), MAX_THREADS),
        )  # fmt: skip
        # Not at the end of the process: another thread may still compute then.
        weakref.finalize(self, self.library.codec_free, self.pointer).atexit = False
        for number, (stage, stack) in enumerate(zip(stages, stacks, strict=True)):
            rate, width = 1, stage.features
            for index, layer in enumerate(stack):
                shape, *tensors = _packed(layer)
                _require(shape.inputs == width, "lacks the codec's width")
                rate, width = rate * shape.hop // shape.step, shape.outputs
                self.library.codec_set_convolution(
                    self.pointer, number, index, ctypes.byref(shape), *_pointers(tensors)
                )
            _require((rate, width) == (stage.hop, stage.width), "lacks the codec's shape")
        for index in range(self.layers):
            inputs, recurrent, *biases = (
                plain(getattr(lstm, f"{name}_l{index}"))
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            tensors = [inputs, recurrent, biases[0] + biases[1]]
            self.library.codec_set_lstm(self.pointer, index, *_pointers(tensors))


class _NativeConvolutions(nn.Module):
    """[batch, features, n] → [batch, width, n * hop], as the module of a stage."""

    def __init__(self, native: _NativeCodec, stack: int, stage: Convolutions) -> None:
        super().__init__()
        self._native, self._stack = native, stack
        self._features, self._width, self._hop = stage.features, stage.width, stage.hop

    def forward(self, frames: Tensor) -> Tensor:
        batch, features, count = frames.shape
        check(features == self._features and 0 < count <= MAX_FRAMES)
        x = plain(frames.transpose(1, 2))
        y = torch.empty(batch, count * self._hop, self._width)
        for rows in zip(x, y, strict=True):
            self._native.library.codec_convolve(
                self._native.pointer, self._stack, count, *_pointers(rows)
            )
        return y.transpose(1, 2)


class _NativeLstm(nn.Module):
    """As torch's: [n, batch, units] and the state, [layers, batch, units] twice. The state is
    changed in place."""

    def __init__(self, native: _NativeCodec) -> None:
        super().__init__()
        self._native = native

    def forward(self, frames: Tensor, state: State | None) -> tuple[Tensor, State]:
        native, (count, batch, units) = self._native, frames.shape
        shape = (native.layers, batch, units)
        state = state or (torch.zeros(shape), torch.zeros(shape))
        check(units == native.units and 0 < count <= MAX_FRAMES)
        check(all(part.shape == shape and part.is_contiguous() for part in state))
        x, y = plain(frames), torch.empty(count, batch, units)
        native.library.codec_recur(native.pointer, count, batch, *_pointers((x, *state, y)))
        return y, state


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise BackendUnavailable(otherwise)


def _layers(module: nn.Module) -> Iterator[_Layer]:
    """Those of SEANet, audiocraft's or transformers'. What is read wrongly fails the proof."""
    layers: Any = module if isinstance(module, nn.Sequential | nn.ModuleList) else [module]
    elu = False
    for layer in layers:
        if isinstance(layer, nn.ELU):
            elu = True
        elif hasattr(layer, "block"):
            _require(isinstance(layer.shortcut, nn.Identity), "lacks the codec's shortcuts")
            first, second = _layers(layer.block)
            yield replace(first, place=BRANCH)
            yield replace(second, place=JOIN)
        else:
            kinds = nn.Conv1d | nn.ConvTranspose1d
            inner = [one for one in layer.modules() if isinstance(one, kinds)]
            _require(len(inner) == 1, f"lacks the codec's {type(layer).__name__}")
            padding = getattr(layer, "pad_mode", "constant")
            _require(padding in ("constant", "reflect"), f"lacks {padding} padding")
            yield _Layer(inner[0], padding == "reflect", elu)
            elu = False


def _packed(layer: _Layer) -> tuple[_Shape, Tensor, Tensor]:
    """A shape, and a matrix [hop * outputs, taps * inputs] with its bias. Channels are filled up to
    multiples of LANES."""
    assert layer.conv.bias is not None
    weight, bias = plain(layer.conv.weight), plain(layer.conv.bias)
    shape = _Shape(reflect=layer.reflect, elu=layer.elu, place=layer.place, step=1, hop=1)
    if isinstance(layer.conv, nn.ConvTranspose1d):  # [inputs, outputs, 2 * stride]
        weight = _filled(_filled(weight, 0), 1)
        stride = weight.shape[2] // 2
        shape.taps, shape.hop, shape.left, shape.right = 2, stride, 1, 1
        shape.lead = stride - stride // 2
        # The second half of the taps is for the earlier row.
        matrix = weight.reshape(*weight.shape[:2], 2, stride).flip(2).permute(3, 1, 2, 0)
        bias = _filled(bias, 0).repeat(stride)
    else:  # [outputs, inputs, taps]
        weight = _filled(weight, 1).transpose(1, 2)
        shape.taps = weight.shape[1]
        shape.right = (shape.taps - 1) // 2
        shape.left = shape.taps - 1 - shape.right
        if len(weight) == 1:  # audio: LANES samples at a time
            shape.step = shape.hop = LANES
            last = LANES - 1
            matrix = torch.cat([functional.pad(weight, (0, 0, i, last - i)) for i in range(LANES)])
            shape.taps += last
            bias = bias.repeat(LANES)
        else:
            matrix, bias = _filled(weight, 0), _filled(bias, 0)
    shape.inputs, shape.outputs = matrix.shape[-1], len(bias) // shape.hop
    return shape, plain(matrix), bias


def _filled(tensor: Tensor, dim: int) -> Tensor:
    """With zeros behind a dimension, up to a multiple of LANES."""
    zeros = [*tensor.shape]
    zeros[dim] = -zeros[dim] % LANES
    return torch.cat([tensor, torch.zeros(zeros)], dim)


def _pointers(tensors: Iterable[Tensor]) -> Iterator[int]:
    return (tensor.data_ptr() for tensor in tensors)
