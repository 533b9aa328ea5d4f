"""A model is placed where its config.pbtxt says, or says why it cannot be."""

import gc

import pytest
import torch

from musicgen_engine.config import Placement
from musicgen_engine.core.checkpoint import check
from musicgen_engine.core.loaded_model import Model
from protocol.errors import EngineUnavailable
from tests.musicgen_engine.core.conftest import TINY, load


def test_on_a_cpu_it_computes_in_full_precision(tiny: Model) -> None:
    assert (tiny.device.type, tiny.precision) == ("cpu", torch.float32)


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(EngineUnavailable, match="cuda:99 is not there"):
        Model.load(TINY, Placement(device="cuda:99"))


def test_a_model_without_room_for_one_song_says_so() -> None:
    with pytest.raises(EngineUnavailable, match="raise `memory`"):
        load(TINY, memory=1e-6)


def test_nothing_is_kept_of_audiocrafts_own_model() -> None:
    from audiocraft.models.lm import LMModel

    def alive() -> int:
        gc.collect()
        return sum(type(thing) is LMModel for thing in gc.get_objects())

    before = alive()
    model = load(TINY)
    assert alive() == before
    assert len(model.describe("slow piano"))


def test_a_model_too_large_to_load_is_named_before_it_is_read() -> None:
    package = {
        "xp.cfg": torch.load(TINY / "state_dict.bin", weights_only=True)["xp.cfg"],
        "best_state": {"weight": torch.empty(10**13, device="meta")},
    }
    with pytest.raises(EngineUnavailable, match=r"80000\.0 GB of the host's memory"):
        check(package)


def test_a_small_model_leaves_the_other_cores_alone() -> None:
    torch.set_num_threads(2)
    load(TINY)
    assert torch.get_num_threads() == 1
