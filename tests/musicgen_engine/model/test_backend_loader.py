"""A backend serves only after it has proved that it computes the same as eager."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from musicgen_engine import config as model_config
from musicgen_engine.model.backend import Backend, ModelInput
from musicgen_engine.model.backend_loader import BACKENDS, LoadedBackend, NewBackend, load_backend
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.transformer import LayerWeights, TransformerConfig
from tests.musicgen_engine.model.random_weights import conditioning, config, run, weights

CPU = torch.device("cpu")


class Wrapped:
    """The eager backend with other logits."""

    def __init__(self, change: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> None:
        self._inner, self._change = BACKENDS["eager"](*args, **kwargs), change

    def set_conditioning(self, slot: int, conditioning: Conditioning) -> None:
        self._inner.set_conditioning(slot, conditioning)

    def forward(self, batch: ModelInput) -> Tensor:
        return self._change(self._inner.forward(batch))


def backend(change: Callable[[Tensor], Tensor]) -> NewBackend:
    return partial(Wrapped, change)


def failing(*args: Any, **kwargs: Any) -> Backend:
    raise RuntimeError("no kernel for this device")


def load(
    name: str,
    candidate: NewBackend | None = None,
    shape: TransformerConfig | None = None,
    precision: torch.dtype = torch.float32,
) -> LoadedBackend:
    backends = {**BACKENDS, **({name: candidate} if candidate else {})}
    return load_backend(name, weights(shape or config(layers=3)), 2, 40, CPU, precision, backends)


def test_auto_is_packed_on_a_cpu_in_float32() -> None:
    loaded = load("auto")
    assert (loaded.name, loaded.fault) == ("packed", None)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_auto_is_eager_in_another_precision(precision: torch.dtype) -> None:
    loaded = load("auto", precision=precision)
    assert (loaded.name, loaded.fault) == ("eager", None)


def test_auto_is_eager_on_another_device() -> None:
    """The device `meta` has no numbers; a model can be placed on it, but not run."""
    meta = torch.device("meta")
    loaded = load_backend("auto", weights(config()), 2, 40, meta, torch.float32)
    assert (loaded.name, loaded.fault) == ("eager", None)


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 5])
def test_packed_serves_with_all_layers(layers: int, rotary: bool) -> None:
    shape = config(layers=layers, rotary=rotary)
    loaded = load("packed", shape=shape)
    assert (loaded.name, loaded.fault) == ("packed", None)
    eager = load("eager", shape=shape).backend
    logits = run(loaded.backend, conditioning())
    assert torch.allclose(logits, run(eager, conditioning()), rtol=0, atol=1e-4)


def test_each_layer_is_taken_once() -> None:
    taken: list[int] = []

    def counted(layers: Iterable[LayerWeights]) -> Iterable[LayerWeights]:
        for index, layer in enumerate(layers):
            taken.append(index)
            yield layer

    whole = weights(config(layers=4))
    counting = replace(whole, layers=counted(whole.layers))
    load_backend("packed", counting, 2, 40, CPU, torch.float32)
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
    loaded = load("fast", candidate)
    assert loaded.name == "eager"
    assert loaded.fault is not None and loaded.fault.startswith(f"fast {fault}")
    warning = caplog.records[-1]
    assert warning.levelno == logging.WARNING
    assert warning.message.startswith(f"the backend fast is put aside for eager: it {fault}")
    logits = [run(backend, conditioning()) for backend in (loaded.backend, load("eager").backend)]
    assert torch.equal(*logits)


def test_rounding_is_no_fault() -> None:
    loaded = load("fast", backend(lambda logits: logits * (1 + 1e-5)))
    assert (loaded.name, loaded.fault) == ("fast", None)


def test_the_reason_has_no_text_of_another_library() -> None:
    loaded = load("fast", failing)
    assert loaded.fault and "no kernel" not in loaded.fault


def test_a_backend_proves_itself_on_shapes_without_a_text() -> None:
    loaded = load("packed", shape=config(cross_attention=False))
    assert (loaded.name, loaded.fault) == ("packed", None)


def test_a_config_can_name_every_backend() -> None:
    assert set(model_config.BACKENDS) == set(BACKENDS)
