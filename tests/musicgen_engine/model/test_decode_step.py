"""The step on the device can be captured: all that changes lies in tensors at fixed places."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from musicgen_engine.model.decode_state import DecodeState
from musicgen_engine.model.decode_step import decode_step
from musicgen_engine.model.guidance import MAX_ROWS, SLOT_ROWS
from musicgen_engine.model.linear import PlainLinear
from musicgen_engine.model.sampler import Filters, Sampler
from musicgen_engine.model.transformer import Transformer, TransformerConfig
from tests.musicgen_engine.model.random_weights import POSITIONS, VOCAB_SIZE, config, weights
from tests.musicgen_engine.model.recorder import Recording

CPU = torch.device("cpu")
CUDA_GUARD, META_GUARD = 1, 14  # in torch's table of device guards
SLOTS, BUCKETS, TOKENS, PLACES = 5, (2, 5), 12, POSITIONS + 1
USUAL = Filters(sampled=True, greedy=True, top_k=20, top_p=False)
ANY = Filters(sampled=True, greedy=True, top_k=VOCAB_SIZE, top_p=True)
CONFIGS = [
    config(),
    config(rotary=True),
    config(cross_attention=False),
]
# They wait for the device, give another result at each call, or have a shape that depends on data.
FORBIDDEN = {
    "_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "bincount", "multinomial",
    "rand", "randn", "randint", "normal_", "uniform_", "exponential_", "bernoulli", "pin_memory",
    "lift_fresh", "scalar_tensor", "_copy_from",
}  # fmt: skip

Step = Callable[[], None]


def parts(
    shape: TransformerConfig, device: torch.device = CPU, precision: torch.dtype = torch.float32
) -> tuple[Transformer, DecodeState]:
    transformer = Transformer(weights(shape), SLOTS, PLACES, device, precision, PlainLinear)
    sampler = Sampler(SLOTS, shape.codebooks, VOCAB_SIZE, device)
    state = DecodeState.zeros(shape, sampler.settings, POSITIONS, TOKENS, precision)
    transformer.cache.data.zero_()
    return transformer, state


def tensors(transformer: Transformer, state: DecodeState) -> dict[str, Tensor]:
    """All that a step reads and writes, without the weights."""
    settings = {field.name: getattr(state.settings, field.name) for field in fields(state.settings)}
    own = {name: value for name, value in vars(state).items() if name != "settings"}
    return {"cache": transformer.cache.data, **settings, **own}


def randomize(transformer: Transformer, state: DecodeState, seed: int) -> None:
    """Songs of all kinds, at any position of any window."""
    random = torch.Generator().manual_seed(seed)

    def integers(low: int, high: int, like: Tensor) -> Tensor:
        return torch.randint(low, high, like.shape, generator=random)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=random)

    transformer.cache.data.copy_(normal(transformer.cache.data))
    state.texts.copy_(normal(state.texts))
    first = integers(0, TOKENS - 1, state.spans[..., 0])
    state.spans.copy_(torch.stack([first, first + 1 + seed % (TOKENS - int(first.max()))], -1))
    state.decodes.copy_(integers(0, 2, state.decodes))
    state.prefix.copy_(integers(0, 4, state.prefix))
    state.position.copy_(integers(0, POSITIONS - 4, state.position))
    state.start.copy_(integers(0, 10_000, state.start))
    state.length.copy_(integers(1, POSITIONS, state.length))
    state.prompt.copy_(integers(0, POSITIONS, state.prompt))
    state.delays.copy_(integers(0, 4, state.delays))
    state.codes.copy_(integers(0, VOCAB_SIZE, state.codes))
    state.rows.copy_(integers(0, SLOT_ROWS * BUCKETS[0], state.rows))
    settings = state.settings
    settings.seed.copy_(integers(-(2**62), 2**62, settings.seed))
    settings.guidance.copy_(3 * normal(settings.guidance))
    settings.temperature.copy_(integers(0, 3, settings.temperature) * 0.7)
    settings.top_k.copy_(integers(1, VOCAB_SIZE + 1, settings.top_k))
    settings.top_p.copy_(integers(1, 12, settings.top_p) * 0.1)


def snapshot(all_tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in all_tensors.items()}


def restore(all_tensors: dict[str, Tensor], saved: dict[str, Tensor]) -> None:
    for name, tensor in all_tensors.items():
        tensor.copy_(saved[name])


def differing(step: Step, replay: Step, everything: dict[str, Tensor]) -> list[str]:
    """The tensors that a replay leaves other than the step, from the same state."""
    before = snapshot(everything)
    step()
    expected = snapshot(everything)
    restore(everything, before)
    replay()
    return [name for name, tensor in everything.items() if not torch.equal(tensor, expected[name])]


@pytest.mark.parametrize("shape", CONFIGS, ids=["plain", "rotary", "no text"])
@torch.inference_mode()
def test_a_replay_equals_the_step_from_any_state(shape: TransformerConfig) -> None:
    """To the bit, on 1,000 states in all."""
    transformer, state = parts(shape)
    everything = tensors(transformer, state)
    steps = [
        partial(decode_step, transformer, state.first(bucket, tokens, rows), filters)
        for bucket in BUCKETS
        for tokens, rows, filters in ((TOKENS // 2, SLOT_ROWS, USUAL), (TOKENS, MAX_ROWS, ANY))
    ]
    recordings = [Recording(step) for step in steps]
    for seed in range(250):
        randomize(transformer, state, seed)
        at = seed % len(steps)
        assert not differing(steps[at], recordings[at].replay, everything)


@torch.inference_mode()
def test_a_replay_shows_a_number_that_was_read_once() -> None:
    """The test above can fail."""
    transformer, state = parts(config())

    def step() -> None:
        state.position.add_(int(state.delays[0, 0]))

    recording = Recording(step)
    randomize(transformer, state, seed=0)
    state.delays.fill_(2)
    assert differing(step, recording.replay, tensors(transformer, state)) == ["position"]


@pytest.mark.parametrize("filters", [USUAL, ANY])
@torch.inference_mode()
def test_the_step_has_no_forbidden_operation(filters: Filters) -> None:
    transformer, state = parts(config())
    names = Recording(partial(decode_step, transformer, state, filters)).names
    assert {"index_put_", "argmax"} <= names  # in this spelling
    assert not names & FORBIDDEN


@pytest.fixture
def cuda() -> Iterator[torch.device]:
    """A CUDA device for fake tensors. torch for CPUs has no guard for it: that of the device meta,
    which does nothing, stands in."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    table = (ctypes.c_void_p * (META_GUARD + 1)).in_dll(
        library, "_ZN3c104impl26device_guard_impl_registryE"
    )
    kept = table[CUDA_GUARD]
    table[CUDA_GUARD] = kept or table[META_GUARD]
    yield torch.device("cuda:0")
    table[CUDA_GUARD] = kept


@pytest.mark.parametrize("filters", [USUAL, ANY])
@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_the_step_stays_on_the_device(
    cuda: torch.device, precision: torch.dtype, filters: Filters
) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        transformer, state = parts(config(), cuda, precision)
        recording = Recording(partial(decode_step, transformer, state, filters))
    assert {tensor.device for tensor in recording.tensors} == {cuda}


def test_a_read_by_the_host_is_seen(cuda: torch.device) -> None:
    """The test above can fail."""
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        torch.ones(1, device=cuda).item()


@torch.inference_mode()
def test_the_step_compiles_once_for_all_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch._dynamo.config.error_on_recompile", True)
    transformer, state = parts(config())
    for bucket in BUCKETS:
        torch._dynamo.reset()
        part = state.first(bucket, TOKENS, MAX_ROWS)
        compiled: Any = torch.compile(decode_step, fullgraph=True, backend="eager")
        for seed in range(5):
            randomize(transformer, state, seed)
            run = partial(compiled, transformer, part, ANY)
            step = partial(decode_step, transformer, part, ANY)
            assert not differing(step, run, tensors(transformer, state))


@torch.inference_mode()
def test_a_slot_that_does_not_decode_stays_as_it_is() -> None:
    transformer, state = parts(config())
    randomize(transformer, state, seed=3)
    state.decodes[:] = torch.tensor([False, True, False, True, False])
    before = snapshot(tensors(transformer, state))
    decode_step(transformer, state, ANY)
    idle = [0, 2, 4]
    assert torch.equal(state.position[idle], before["position"][idle])
    assert torch.equal(state.codes[idle, :, :-1], before["codes"][idle, :, :-1])
    written, kept = transformer.cache.data[:, :, idle], before["cache"][:, :, idle]
    assert torch.equal(written[..., :-1, :], kept[..., :-1, :])
    assert not torch.equal(state.codes[[1, 3]], before["codes"][[1, 3]])


@pytest.mark.parametrize("shape", CONFIGS, ids=["plain", "rotary", "no text"])
@torch.inference_mode()
def test_a_song_does_not_depend_on_the_other_slots(shape: TransformerConfig) -> None:
    """To the bit: not on their numbers, and not on whether they decode."""
    transformer, state = parts(shape)
    everything = tensors(transformer, state)
    slots = {name: 2 if name in ("cache", "texts") else 0 for name in everything}

    def own(name: str, slot: int) -> Tensor:
        return everything[name].select(slots[name], slot)

    for seed in range(40):
        slot = seed % SLOTS
        randomize(transformer, state, seed)
        state.decodes[slot] = True
        state.set_rows([slot], SLOT_ROWS)
        before = {name: own(name, slot).clone() for name in everything}
        decode_step(transformer, state, ANY)
        expected = {name: own(name, slot).clone() for name in everything}
        randomize(transformer, state, seed + 1_000)
        for name, kept in before.items():
            own(name, slot).copy_(kept)
        decode_step(transformer, state, ANY)
        assert all(torch.equal(own(name, slot), kept) for name, kept in expected.items())
