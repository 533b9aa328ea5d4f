"""Sampling in native code gives the codes of torch."""

from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor, arange, equal

from musicgen_engine.model.backend import BackendUnavailable
from musicgen_engine.model.backend_loader import choose_sampler
from musicgen_engine.model.guidance import CLASSIFIER_FREE, Guidance
from musicgen_engine.model.native_sampler import NativeSampler
from musicgen_engine.model.sampler import Sampler
from tests.conftest import needs_native
from tests.musicgen_engine.model.test_sampler import CPU, REQUEST, SETTINGS, logits

pytestmark = needs_native
ROUNDS = 50
ALL = [*SETTINGS.values(), {"temperature": 0.0}, {"top_k": 250}]
GUIDANCES = [CLASSIFIER_FREE, Guidance((0.3, 0.7)), Guidance((0.2, 0.5, 0.1, 0.2))]


def codes(new: type[Sampler], seed: int) -> Tensor:
    """Of a sequence for each setting, with two, three or five rows."""
    n, sampler = len(ALL), new(len(ALL), 4, 2048, CPU)
    for slot, setting in enumerate(ALL):
        request = replace(REQUEST, seed=slot, **setting)
        sampler.set_request(slot, request, GUIDANCES[slot % 3])
    many = 4 * logits(3 * n, 4, 2048, seed=seed).flatten(0, 1)
    return sampler.sample(many, range(n), arange(4 * n).view(n, 4) + 100 * seed)


def test_codes_are_those_of_torch_with_every_setting() -> None:
    for seed in range(ROUNDS):
        assert equal(codes(NativeSampler, seed), codes(Sampler, seed))


@pytest.mark.parametrize("size", [2047, 8192])
def test_torch_samples_a_vocabulary_that_native_code_lacks(size: int) -> None:
    new, fault = choose_sampler("native", 4, size)
    assert new is Sampler
    assert fault == "the sampler's native code needs at most 4096 tokens, a multiple of 16"


@pytest.mark.parametrize("slots", [[-1], [3], [0, 1, 2]])
def test_numbers_out_of_range_do_not_reach_native_code(slots: list[int]) -> None:
    """A slot that is not there, and fewer logits than the sequences have rows."""
    sampler = NativeSampler(3, 4, 2048, CPU)
    with pytest.raises((ValueError, IndexError)):
        sampler.sample(logits(2, 4, 2048).flatten(0, 1), slots, arange(4).expand(len(slots), 4))


class Wrong(NativeSampler):
    def sample(self, *of: Any) -> Tensor:
        return (super().sample(*of) + 1) % 2048


class Missing(NativeSampler):
    def __init__(self, *of: Any) -> None:
        raise BackendUnavailable("is not built")


@pytest.mark.parametrize(
    ("native", "reason"), [(Wrong, "samples other codes than torch"), (Missing, "is not built")]
)
def test_native_code_that_fails_leaves_sampling_to_torch(
    native: type[Sampler], reason: str
) -> None:
    fault = f"the sampler's native code {reason}"
    assert choose_sampler("native", 4, 2048, native) == (Sampler, fault)


@pytest.mark.parametrize("backend", ["eager", "packed", "graph"])
def test_other_backends_sample_in_torch(backend: str) -> None:
    assert choose_sampler(backend, 4, 2048) == (Sampler, None)
