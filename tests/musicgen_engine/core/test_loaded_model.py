"""A model runs where its config.pbtxt says, or the error says why it cannot."""

import gc
import math
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from musicgen_engine.config import ModelConfig
from musicgen_engine.core.loaded_model import LoadedModel, load_each
from protocol.errors import EngineUnavailable
from tests.conftest import needs_native
from tests.musicgen_engine.conftest import TINY, load


def test_on_a_cpu_it_computes_in_full_precision(tiny: LoadedModel) -> None:
    assert (tiny.device.type, tiny.precision) == ("cpu", torch.float32)


def test_a_device_that_does_not_exist_is_named() -> None:
    with pytest.raises(EngineUnavailable, match="device: cuda:99 cannot be used: "):
        LoadedModel.load(TINY, ModelConfig(device="cuda:99"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_all_devices_without_a_gpu_are_refused() -> None:
    with pytest.raises(EngineUnavailable, match="device: cuda:0 cannot be used: "):
        load_each(TINY, ModelConfig(device="all"))


def test_a_model_without_memory_for_one_slot_is_refused() -> None:
    with pytest.raises(EngineUnavailable, match="raise `memory`"):
        load(TINY, memory=1e-6)


class LittleMemory(TorchDispatchMode):
    """A device whose allocator has no room for many numbers at once."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.ops.aten.empty.memory_format and math.prod(args[0]) > 10**6:
            raise torch.OutOfMemoryError("out of memory. Tried to allocate 20.00 MiB")
        return function(*args, **(kwargs or {}))


def test_a_device_that_runs_out_of_memory_says_what_to_do() -> None:
    """The slots fitted into what was free, and then another program took it."""
    with LittleMemory(), pytest.raises(EngineUnavailable) as caught:
        load(TINY, backend="eager")
    assert caught.value.message == (
        "cpu has too little memory for the model beside what else it holds; make room, lower "
        "`memory` in its config.pbtxt, or choose another device"
    )


def test_audiocrafts_own_model_is_freed() -> None:
    from audiocraft.models.lm import LMModel

    def alive() -> int:
        gc.collect()
        return sum(type(thing) is LMModel for thing in gc.get_objects())

    before = alive()
    model = load(TINY)
    assert alive() == before
    assert model.encode_text("slow piano").cross[0] is not None


@needs_native
@pytest.mark.parametrize("backend", ["auto", "native", "packed", "eager"])
def test_the_backend_that_serves_is_named(backend: str) -> None:
    model = load(TINY, backend=backend)
    assert model.backend_name == ("native" if backend == "auto" else backend)
    assert model.fallback is None


def test_a_small_model_runs_on_one_thread() -> None:
    torch.set_num_threads(2)
    load(TINY)
    assert torch.get_num_threads() == 1
