"""A backend serves only after it has proved that it computes the same as eager."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from musicgen_engine import config as model_config
from musicgen_engine.model.backend import Backend, ModelInput
from musicgen_engine.model.backend_loader import BACKENDS, Choice, choose_backend
from musicgen_engine.model.proof import NewBackend
from musicgen_engine.model.transformer import LayerWeights, TransformerConfig
from tests.conftest import needs_native
from tests.musicgen_engine.core.harness import Relay
from tests.musicgen_engine.model.random_weights import (
    POSITIONS,
    conditioning,
    config,
    run,
    weights,
)

CPU = torch.device("cpu")

each_backend = pytest.mark.parametrize(
    "backend", [pytest.param("native", marks=needs_native), "packed"]
)


class Wrapped(Relay):
    """The eager backend with other logits."""

    def __init__(self, change: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> None:
        super().__init__(BACKENDS["eager"](*args, **kwargs))
        self._change = change

    def forward(self, batch: ModelInput) -> Tensor:
        return self._change(super().forward(batch))


def backend(change: Callable[[Tensor], Tensor]) -> NewBackend:
    return partial(Wrapped, change)


def failing(*args: Any, **kwargs: Any) -> Backend:
    raise RuntimeError("no kernel for this device")


def choose(
    name: str,
    candidate: NewBackend | None = None,
    shape: TransformerConfig | None = None,
    precision: torch.dtype | None = None,
) -> Choice:
    backends = {**BACKENDS, **({name: candidate} if candidate else {})}
    return choose_backend(name, precision, weights(shape or config(layers=3)), CPU, backends)


def logits(choice: Choice) -> Tensor:
    return run(choice.load(2, POSITIONS, CPU).backend, conditioning())


@needs_native
def test_auto_is_native_on_a_cpu_and_float32_for_a_small_model() -> None:
    choice = choose("auto")
    assert (choice.name, choice.precision, choice.fault) == ("native", torch.float32, None)


@needs_native
def test_auto_is_int8_for_a_large_model() -> None:
    choice = choose("auto", shape=config(layers=3, dim=1024, heads=16, ffn_dim=4096))
    assert (choice.name, choice.precision, choice.fault) == ("native", torch.int8, None)
    assert choice.held == torch.int8


@pytest.fixture
def unbuilt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERNELS", str(tmp_path))


def test_without_native_code_auto_is_packed_and_says_so(unbuilt: None) -> None:
    choice = choose("auto", shape=config(layers=3, dim=1024, heads=16, ffn_dim=4096))
    assert (choice.name, choice.precision) == ("packed", torch.float32)
    assert choice.fault == "native is not built: run `python -m kernels.build`"


def test_int8_without_native_code_is_eager(unbuilt: None) -> None:
    expected = logits(choose("eager", precision=torch.int8))
    choice = choose("auto", precision=torch.int8)
    assert (choice.name, choice.precision, choice.held) == ("eager", torch.int8, torch.float32)
    assert torch.equal(logits(choice), expected)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_auto_is_eager_in_another_precision(precision: torch.dtype) -> None:
    choice = choose("auto", precision=precision)
    assert (choice.name, choice.precision, choice.fault) == ("eager", precision, None)


def test_auto_is_graph_on_another_device() -> None:
    """The device `meta` has no numbers; a model can be placed on it, but not run."""
    choice = choose_backend("auto", None, weights(config()), torch.device("meta"))
    assert (choice.name, choice.precision, choice.fault) == ("graph", torch.float16, None)


@pytest.mark.parametrize(
    ("backend", "precision"),
    [("packed", torch.int8), ("packed", torch.bfloat16), ("native", torch.float16)],
)
def test_a_precision_that_a_backend_lacks_is_a_fault(backend: str, precision: torch.dtype) -> None:
    choice = choose(backend, precision=precision)
    assert (choice.name, choice.precision) == ("eager", precision)
    assert choice.fault and choice.fault.startswith(f"{backend} computes in float32")


@each_backend
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 5])
def test_a_backend_serves_with_all_layers(backend: str, layers: int, rotary: bool) -> None:
    shape = config(layers=layers, rotary=rotary)
    choice = choose(backend, shape=shape)
    assert (choice.name, choice.fault) == (backend, None)
    eager = logits(choose("eager", shape=shape))
    assert torch.allclose(logits(choice), eager, rtol=0, atol=1e-4)


def test_each_layer_is_taken_once() -> None:
    taken: list[int] = []

    def counted(layers: Iterable[LayerWeights]) -> Iterable[LayerWeights]:
        for index, layer in enumerate(layers):
            taken.append(index)
            yield layer

    whole = weights(config(layers=4))
    counting = replace(whole, layers=counted(whole.layers))
    choose_backend("packed", None, counting, CPU).load(2, POSITIONS, CPU)
    assert taken == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("candidate", "fault"),
    [
        (backend(lambda logits: logits * 1.01), "differs from eager by 0.01"),
        (backend(lambda logits: logits.flip(0)), "differs from eager by "),
        (backend(lambda logits: logits * torch.nan), "differs from eager by nan"),
        (backend(lambda logits: logits[:, :1]), "differs from eager by "),
        (failing, "fails: RuntimeError"),
    ],
    ids=["a little", "rows", "nan", "shape", "error"],
)
def test_a_wrong_backend_is_put_aside_for_eager(
    candidate: NewBackend, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    choice = choose("fast", candidate)
    assert choice.name == "eager"
    assert choice.fault is not None and choice.fault.startswith(f"fast {fault}")
    warning = caplog.records[-1]
    assert warning.levelno == logging.WARNING
    assert warning.message.startswith(f"the backend fast is put aside: it {fault}")
    assert torch.equal(logits(choice), logits(choose("eager")))


def test_a_wrong_native_backend_leaves_packed() -> None:
    backends = {**BACKENDS, "native": backend(lambda logits: logits * 1.01)}
    choice = choose_backend("auto", None, weights(config()), CPU, backends)
    assert choice.name == "packed"
    assert choice.fault and choice.fault.startswith("native differs from eager by 0.01")


def test_rounding_is_no_fault() -> None:
    choice = choose("fast", backend(lambda logits: logits * (1 + 1e-5)))
    assert (choice.name, choice.fault) == ("fast", None)


def test_the_reason_has_no_text_of_another_library() -> None:
    choice = choose("fast", failing)
    assert choice.fault and "no kernel" not in choice.fault


@each_backend
def test_a_backend_proves_itself_on_shapes_without_a_text(backend: str) -> None:
    choice = choose(backend, shape=config(cross_attention=False))
    assert (choice.name, choice.fault) == (backend, None)


def test_a_config_can_name_every_backend() -> None:
    assert set(model_config.BACKENDS) == set(BACKENDS)
