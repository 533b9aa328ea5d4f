"""The native code computes what the plain transformer computes, and each row by itself."""

import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import kernels
from musicgen_engine.model.backend import Backend, BackendUnavailable
from musicgen_engine.model.backend_loader import BACKENDS
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.transformer import TransformerConfig, Weights
from tests.conftest import ROOT, needs_native
from tests.musicgen_engine.model.random_weights import (
    DIM,
    POSITIONS,
    TOKENS,
    batch,
    conditioning,
    config,
    feed,
    run,
    text,
    weights,
)

pytestmark = needs_native

CPU = torch.device("cpu")
SETS = [one.name for one in kernels.supported()]
PRECISIONS = [torch.float32, torch.int8]

each_set = pytest.mark.parametrize("instruction_set", SETS)
each_precision = pytest.mark.parametrize("precision", PRECISIONS, ids=["float32", "int8"])


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda name: monkeypatch.setenv("KERNEL", name)


def new(
    name: str, precision: torch.dtype, shape: TransformerConfig, of: Weights | None = None
) -> Backend:
    return BACKENDS[name](of or weights(shape), 4, POSITIONS + 8, CPU, precision)


def distance(logits: Tensor, expected: Tensor) -> float:
    return float((logits - expected).abs().max() / expected.abs().max())


def with_prefix() -> Conditioning:
    prefix = torch.randn(2, 7, DIM, generator=torch.Generator().manual_seed(1))
    return Conditioning((text(), text(seed=2, tokens=20)), prefix)


@each_set
@each_precision
@pytest.mark.parametrize("rotary", [False, True], ids=["sinusoids", "rotary"])
@pytest.mark.parametrize("cross_attention", [True, False], ids=["text", "no text"])
def test_it_computes_what_eager_computes(
    choose: Any, instruction_set: str, precision: torch.dtype, rotary: bool, cross_attention: bool
) -> None:
    choose(instruction_set)
    shape = config(rotary=rotary, cross_attention=cross_attention)
    logits = [run(new(name, precision, shape), conditioning()) for name in ("native", "eager")]
    assert distance(*logits) < 1e-5


@each_set
def test_weights_of_a_float16_give_the_same_bits(choose: Any, instruction_set: str) -> None:
    """One weight that no float16 holds makes the code keep the whole matrix in float32."""
    choose(instruction_set)
    plain = weights(config())
    halves = plain.heads.half().float()
    halves[5, :9] = torch.tensor(
        [0, 2**-24, -(2**-24), 3e-5, 2**-14, 65504, -65504, 1, -0.1]
    ).half()
    floats = halves.clone()
    floats[0, 0] = 1 / 3
    logits = [
        run(new(name, torch.float32, config(), replace(plain, heads=heads)), conditioning())
        for name, heads in (("native", halves), ("native", floats), ("eager", halves))
    ]
    others = [one.flatten(2)[..., 1:] for one in logits]
    assert torch.equal(others[0], others[1])
    assert distance(others[0], others[2]) < 1e-5


@each_precision
def test_a_prefix_and_two_texts_agree(precision: torch.dtype) -> None:
    logits = [run(new(name, precision, config()), with_prefix()) for name in ("native", "eager")]
    assert distance(*logits) < 1e-5


@pytest.mark.parametrize("length", [7, 30])
def test_a_prefix_may_lie_in_any_order_or_precision(length: int) -> None:
    turned = torch.randn(2, DIM, length, generator=torch.Generator().manual_seed(1))
    prefixes = [prefix.transpose(1, 2) for prefix in (turned, turned.half())]
    for prefix in prefixes:
        states = Conditioning((text(), None), prefix)
        logits = [run(new(name, torch.float32, config()), states) for name in ("native", "eager")]
        assert distance(*logits) < 1e-5


@each_precision
@pytest.mark.parametrize(("melody", "words"), [(2, 0), (0, 2)], ids=["melody", "text"])
@pytest.mark.parametrize(("length", "before"), [(7, 7), (7, 9), (9, 7)])
def test_a_slot_keeps_the_null_prefix_of_the_song_before(
    precision: torch.dtype, melody: int, words: int, length: int, before: int
) -> None:
    """It does not read that prefix again: here it is NaN by then. Another melody or another text
    changes the other row."""
    null, *melodies = torch.randn(4, 9, DIM, generator=torch.Generator().manual_seed(1))

    def song(melody: int, words: int, length: int) -> Conditioning:
        prefix = torch.stack([melodies[melody], null])[:, :length].contiguous()
        return Conditioning((text(words), None), prefix)

    expected = run(new("native", precision, config()), song(melody, words, length))
    backend = new("native", precision, config())
    run(backend, song(0, 0, before))
    states = song(melody, words, length)
    backend.set_conditioning(0, states)
    assert states.prefix is not None
    states.prefix[1, :6] = torch.nan
    backend.forward(batch((0, -length, TOKENS[:, :length])))
    assert torch.equal(feed(backend, 0, [6, 1, 1, 1, 1]), expected)


@each_precision
def test_a_conditioning_can_be_exchanged_in_mid_sequence(precision: torch.dtype) -> None:
    def logits(name: str) -> Tensor:
        backend = new(name, precision, config())
        backend.set_conditioning(1, conditioning())
        before = feed(backend, 1, [5, 1])
        backend.set_conditioning(1, Conditioning((None, text(seed=3, tokens=2))))
        return torch.cat([before, feed(backend, 1, [1, 4], start=6)])

    assert distance(logits("native"), logits("eager")) < 1e-5


@each_set
@each_precision
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_row_does_not_depend_on_the_batch_or_the_threads(
    choose: Any, instruction_set: str, precision: torch.dtype, threads: int
) -> None:
    """Nor on the chunks of its prefill. To the bit; groups of inputs that are not full, too."""
    choose(instruction_set)
    shape = config(dim=192, heads=6, ffn_dim=320)
    wide = Conditioning((torch.randn(3, 192, generator=torch.Generator().manual_seed(5)), None))
    torch.set_num_threads(1)
    alone = new("native", precision, shape)
    alone.set_conditioning(0, wide)
    expected = feed(alone, 0, [1] * 9)[-3:]
    torch.set_num_threads(threads)
    backend = new("native", precision, shape)
    for slot in range(4):
        backend.set_conditioning(slot, wide if slot == 2 else Conditioning((None, None)))
    backend.forward(batch((2, 0, TOKENS[:, :4]), (0, 0, TOKENS[:, 5:16])))
    backend.forward(batch((1, 0, TOKENS[:, 1:2]), (2, 4, TOKENS[:, 4:6])))
    for index, position in enumerate((6, 7, 8)):
        others = [(0, 11 + index, TOKENS[:, :1]), (3, 20 - index, TOKENS[:, 1:2])]
        logits = backend.forward(batch(*others, (2, position, TOKENS[:, [position]])))
        assert torch.equal(logits[4:6], expected[index])


@each_precision
def test_instruction_sets_with_fma_give_the_same_bits(choose: Any, precision: torch.dtype) -> None:
    results = []
    for name in SETS:
        choose(name)
        results.append(run(new("native", precision, config()), conditioning()))
    *fused, portable = results
    assert all(torch.equal(one, fused[0]) for one in fused)
    assert distance(portable, fused[0] if fused else portable) < 1e-5


def test_int8_agrees_where_some_channels_are_very_large() -> None:
    """As in checkpoints of a billion parameters."""
    shape = config(dim=512, heads=8, ffn_dim=1024)
    outlying = weights(shape)
    for layer in outlying.layers:
        layer.self_attention.norm[0][[3, 200]] *= 30
        layer.norm_ffn[0][77] *= 100
    states = Conditioning((torch.randn(4, 512, generator=torch.Generator().manual_seed(1)), None))
    logits = [run(new(name, torch.int8, shape, outlying), states) for name in ("native", "eager")]
    assert distance(*logits) < 2e-2  # single numbers are rounded the other way
    exact = run(new("native", torch.float32, shape, outlying), states)
    assert (logits[0] - exact).norm() < 0.1 * exact.norm()


def test_inputs_of_zero_are_no_division_by_zero() -> None:
    zeros = weights(config())
    zeros.embeddings.zero_()
    logits = run(new("native", torch.int8, config(rotary=True), zeros), conditioning())
    assert logits.isfinite().all()


@each_set
@each_precision
@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("place", ["text", "matrix", "norm"])
def test_what_is_not_finite_stays_visible(
    choose: Any, instruction_set: str, precision: torch.dtype, number: float, place: str
) -> None:
    choose(instruction_set)
    broken, words = weights(config()), text()
    first = next(iter(broken.layers))
    places = {"text": words, "matrix": first.ffn_in, "norm": first.norm_ffn[0][None]}
    places[place][0, 3] = number
    logits = run(new("native", precision, config(), broken), Conditioning((words, None)))
    assert logits[:, 0].isnan().all()


@each_precision
def test_a_broken_sequence_breaks_no_other(precision: torch.dtype) -> None:
    backend = new("native", precision, config())
    results = []
    for number in (0.0, math.nan):
        backend.set_conditioning(0, Conditioning((text() + number, None)))
        backend.set_conditioning(1, conditioning(1))
        backend.forward(batch((0, 0, TOKENS[:, :5]), (1, 0, TOKENS[:, :5])))
        results.append(backend.forward(batch((0, 5, TOKENS[:, 5:6]), (1, 5, TOKENS[:, 5:6]))))
    sound, broken = results
    assert torch.equal(broken[2:], sound[2:])
    backend.set_conditioning(0, conditioning())  # nor the next in its slot
    backend.forward(batch((0, 0, TOKENS[:, :1])))
    assert backend.forward(batch((0, 1, TOKENS[:, :1]))).isfinite().all()


@pytest.mark.parametrize("scale", [1e-32, 1e-38, 1e-42])
def test_very_small_inputs_are_zero(scale: float) -> None:
    states = Conditioning((text() * scale, None))
    logits = [run(new(name, torch.int8, config()), states) for name in ("native", "eager")]
    assert distance(*logits) < 1e-5


def test_a_text_may_be_longer_than_a_window() -> None:
    long = Conditioning((text(tokens=700), None))
    logits = [run(new(name, torch.float32, config()), long) for name in ("native", "eager")]
    assert distance(*logits) < 1e-5


@pytest.mark.parametrize(
    ("shape", "precision"),
    [
        (config(heads=8), torch.float32),  # 8 numbers a head
        (config(), torch.bfloat16),
    ],
)
def test_what_it_cannot_compute_is_refused(
    shape: TransformerConfig, precision: torch.dtype
) -> None:
    with pytest.raises(BackendUnavailable):
        new("native", precision, shape)


COMPUTE_ON = """
import threading
from tests.musicgen_engine.model.test_native import *

backend = new("native", torch.float32, config())
backend.set_conditioning(0, conditioning())
started = threading.Event()

def compute():
    while True:
        feed(backend, 0, [20])
        started.set()

threading.Thread(target=compute, daemon=True).start()
started.wait()
"""


def test_a_process_may_end_while_a_thread_computes() -> None:
    ended = subprocess.run([sys.executable, "-c", COMPUTE_ON], cwd=ROOT, check=False)
    assert ended.returncode != -signal.SIGSEGV


def test_numbers_out_of_range_are_refused() -> None:
    backend = new("native", torch.float32, config())
    backend.set_conditioning(0, conditioning())
    wrong = [
        batch((4, 0, TOKENS[:, :1])),  # no such slot
        batch((1, 0, TOKENS[:, :1])),  # without a conditioning
        batch((0, POSITIONS + 8, TOKENS[:, :1])),
        batch((0, -1, TOKENS[:, :1])),
        batch((0, 0, TOKENS[:, :1] + 1000)),
        batch((0, 0, TOKENS[:, :1] - 1000)),
        batch((0, 0, TOKENS[:1, :1])),  # one codebook of two
        batch((0, 0, np.repeat(TOKENS, 4, axis=1))),  # more rows than a pass takes
    ]
    for one in wrong:
        with pytest.raises(ValueError, match="out of range"):
            backend.forward(one)
    with pytest.raises(ValueError, match="out of range"):
        backend.set_conditioning(0, Conditioning((text(tokens=3000), None)))
    with pytest.raises(ValueError, match="out of range"):
        backend.set_conditioning(0, Conditioning((torch.zeros(3, DIM + 1), None)))


@each_precision
@pytest.mark.parametrize("name", ["native", "eager"])
@pytest.mark.parametrize("end", [1, 15, 20])
def test_a_copied_row_goes_on_as_if_it_had_computed(
    name: str, precision: torch.dtype, end: int
) -> None:
    """To the bit: slot 1 sees the positions, row 1 of slot 2 gets them."""
    backend = new(name, precision, config())
    backend.set_conditioning(1, conditioning())
    backend.forward(batch((1, 0, TOKENS[:, :end])))
    backend.set_conditioning(2, Conditioning((text(5), text(6))))
    backend.forward(batch((2, 0, TOKENS[:, :end])))
    backend.copy_row(1, 2, 1, end)
    backend.set_conditioning(1, Conditioning((text(6), text(5))))
    step = batch((1, end, TOKENS[:, end : end + 1]), (2, end, TOKENS[:, end : end + 1]))
    first, second = backend.forward(step).unflatten(0, (2, 2))
    assert torch.equal(second[1], first[0])
    assert not torch.equal(second[0], first[1])
