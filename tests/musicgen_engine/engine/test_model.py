"""A model is placed where its config.pbtxt says, or says why it cannot be."""

import pytest
import torch

from musicgen_engine.engine.model import Model
from musicgen_engine.errors import EngineUnavailable
from musicgen_engine.placement import Placement
from tests.musicgen_engine.engine.conftest import TINY, load


def test_on_a_cpu_it_computes_in_full_precision(tiny: Model) -> None:
    assert (tiny.device.type, tiny.precision) == ("cpu", torch.float32)


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(EngineUnavailable, match="cuda:99 is not there"):
        Model.load(TINY, Placement(device="cuda:99"))


def test_a_model_without_room_for_one_song_says_so() -> None:
    with pytest.raises(EngineUnavailable, match="raise `memory`"):
        load(TINY, memory=1e-6)


def test_a_small_model_leaves_the_other_cores_alone() -> None:
    torch.set_num_threads(2)
    load(TINY)
    assert torch.get_num_threads() == 1
