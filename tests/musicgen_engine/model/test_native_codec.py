"""The codec in native code computes each song by itself, for any threads and instruction set.

test_streaming_codec.py compares it with the unmodified model.
"""

import gc
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import kernels
from musicgen_engine.core.codec import streaming_codec
from musicgen_engine.model.backend import BackendUnavailable
from musicgen_engine.model.backend_loader import choose_codec
from musicgen_engine.model.native_codec import native_codec
from musicgen_engine.model.streaming_codec import StreamingCodec
from protocol.constants import Codes, Samples
from tests.conftest import needs_native
from tests.musicgen_engine.conftest import TINY, load
from tests.musicgen_engine.model.test_streaming_codec import (
    FRAMES,
    MODELS,
    VOCAB_SIZE,
    audiocrafts,
    streamed,
    transformers,
)

pytestmark = needs_native

SETS = [one.name for one in kernels.supported()]
CODEBOOKS = 8  # in stereo
CODES: Codes = np.random.default_rng(1).integers(
    VOCAB_SIZE, size=(CODEBOOKS, FRAMES), dtype=np.int32
)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def stereo() -> StreamingCodec:
    return streaming_codec(MODELS["stereo"]())


@pytest.fixture(scope="module")
def mono() -> StreamingCodec:
    return streaming_codec(audiocrafts())


def decoded(codec: StreamingCodec, sizes: Iterable[int] = (FRAMES,)) -> Samples:
    return streamed(codec.stream(), CODES[: 4 * codec.channels], sizes)


@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("size", [1, 7, FRAMES])
def test_samples_depend_neither_on_threads_nor_on_chunks(
    stereo: StreamingCodec, threads: int, size: int
) -> None:
    """To the bit."""
    torch.set_num_threads(1)
    expected = decoded(native_codec(stereo))
    torch.set_num_threads(threads)
    assert np.array_equal(decoded(native_codec(stereo), repeat(size)), expected)


def test_instruction_sets_with_fma_give_the_same_bits(
    stereo: StreamingCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for name in SETS:
        monkeypatch.setenv("KERNEL", name)
        results.append(decoded(native_codec(stereo)))
    *fused, portable = results
    assert all(np.array_equal(one, fused[0]) for one in fused)
    expected = decoded(stereo)
    assert np.abs(portable - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_codec_that_ships_with_the_service_agrees() -> None:
    """Its weights are trained."""
    plain, native = (load(TINY, backend=name).codec for name in ("eager", "native"))
    assert type(native.lstm) is not type(plain.lstm) is nn.LSTM
    expected, samples = decoded(plain), decoded(native)
    assert np.abs(expected).max() > 0.05
    assert np.abs(samples - expected).max() < 1e-5  # full scale is 1


def test_the_plain_decoder_is_freed_for_the_native_one() -> None:
    def alive() -> int:
        gc.collect()
        return sum(type(thing) is nn.LSTM for thing in gc.get_objects())

    before = alive()
    native = load(TINY, backend="native")
    assert alive() == before
    plain = load(TINY, backend="eager")
    assert alive() == before + 1
    assert native.codec.lookahead == plain.codec.lookahead


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: transformers(use_conv_shortcut=True), "shortcuts"),
        (lambda: audiocrafts(seanet={"dimension": 24}), "width"),
        (lambda: audiocrafts(seanet={"activation": "ReLU", "activation_params": {}}), "ReLU"),
    ],
)
def test_what_it_lacks_is_named(build: Callable[[], Any], named: str) -> None:
    with pytest.raises(BackendUnavailable, match=named):
        native_codec(streaming_codec(build()))


def test_numbers_out_of_range_are_refused(mono: StreamingCodec) -> None:
    native = native_codec(mono)
    units = native.after.features
    for frames in (torch.zeros(1, units + 16, 3), torch.zeros(1, units, 0)):
        with pytest.raises(ValueError, match="out of range"):
            native.after.module(frames)
    steps = torch.zeros(3, 1, units)
    for state in (torch.zeros(2, 2, units), torch.zeros(1, 1, units)):
        with pytest.raises(ValueError, match="out of range"):
            native.lstm(steps, (state, state))
    with pytest.raises(ValueError, match="out of range"):
        native.lstm(torch.zeros(3, 1, units + 16), None)


def choose(codec: StreamingCodec, name: str, **native: Any) -> tuple[StreamingCodec, str | None]:
    return choose_codec(name, codec, 4, VOCAB_SIZE, **native)


@pytest.mark.parametrize("backend", ["auto", "native"])
def test_it_serves_unless_another_backend_is_named(mono: StreamingCodec, backend: str) -> None:
    chosen, fault = choose(mono, backend)
    assert fault is None
    assert chosen is not mono
    for other in ("packed", "eager"):
        assert choose(mono, other) == (mono, None)


def test_without_a_library_the_codec_is_plain(
    mono: StreamingCodec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KERNELS", str(tmp_path))
    chosen, fault = choose(mono, "auto")
    assert chosen is mono
    assert fault and fault.startswith("the codec's native code is not built")


class Scaled(nn.Module):
    def __init__(self, module: nn.Module, factor: float) -> None:
        super().__init__()
        self.module, self.factor = module, factor

    def forward(self, frames: Tensor) -> Tensor:
        output: Tensor = self.module(frames) * self.factor
        return output


@pytest.mark.parametrize("factor", [1.001, torch.nan])
def test_one_that_differs_is_put_aside(
    mono: StreamingCodec, factor: float, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(codec: StreamingCodec) -> StreamingCodec:
        changed = copy(codec)
        changed.after = copy(codec.after)
        changed.after.module = Scaled(codec.after.module, factor)
        return changed

    chosen, fault = choose(mono, "auto", native=wrong)
    assert chosen is mono
    assert fault and fault.startswith("the codec's native code differs from eager by")
    assert "put aside" in caplog.records[-1].message
