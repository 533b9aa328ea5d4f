"""A forward pass of the transformer, and what must not change its result."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.model.backend import Backend
from musicgen_engine.model.backend_loader import BACKENDS
from musicgen_engine.model.conditioning import Conditioning
from tests.conftest import needs_native
from tests.musicgen_engine.conftest import load
from tests.musicgen_engine.model.random_weights import (
    POSITIONS,
    TOKENS,
    backend,
    batch,
    begin,
    conditioning,
    config,
    feed,
    run,
    text,
    weights,
)

RANDOM = np.random.default_rng(0)
CODES = RANDOM.integers(0, 2049, (4, 80))  # for MINIMAL checkpoints


def run_model(model: LoadedModel, slot: int, chunks: Sequence[int]) -> Tensor:
    """The logits after CODES, prefilled in chunks of these lengths."""
    model.backend.set_conditioning(slot, model.encode_text("slow piano"))
    start = 0
    for length in chunks:
        tokens = CODES[:, start : start + length]
        logits = model.backend.forward(batch((slot, start, tokens)))
        start += length
    return logits


@pytest.mark.parametrize("chunks", [[8] * 10, [64, 16], [1, 79], [3] * 26 + [2]])
def test_prefill_is_the_same_to_the_bit_in_any_chunks(tiny: LoadedModel, chunks: list[int]) -> None:
    assert torch.equal(run_model(tiny, 0, chunks), run_model(tiny, 1, [1] * 80))


@pytest.mark.parametrize("width", [1024, 1536, 2048])  # of MusicGen small, medium and large
@pytest.mark.parametrize("threads", [1, 2])
def test_a_sequence_of_any_width_is_exact_in_any_batch(width: int, threads: int) -> None:
    """Decoded alone, decoded beside another one, and prefilled."""
    torch.set_num_threads(threads)
    model = backend(config(layers=1, dim=width, heads=width // 64, ffn_dim=4 * width))
    for slot, tokens in ((0, 12), (1, 12), (2, 12), (3, 5)):
        model.set_conditioning(slot, Conditioning((text(tokens, width=width, tokens=tokens), None)))
    alone = feed(model, 0, [1] * 8)
    assert torch.equal(feed(model, 1, [7, 1]), alone[-2:])
    for position in range(8):
        token = TOKENS[:, position : position + 1]
        together = model.forward(batch((3, position, token), (2, position, token)))
        assert torch.equal(together[2:], alone[position])


@pytest.mark.parametrize("chunks", [[8] * 10, [64, 16], [1, 79]])
def test_rotary_prefill_is_the_same_to_the_bit_in_any_chunks(
    rotary: LoadedModel, chunks: list[int]
) -> None:
    assert torch.equal(run_model(rotary, 0, chunks), run_model(rotary, 1, [1] * 80))


def test_a_slot_keeps_nothing_of_the_sequence_before(tiny: LoadedModel) -> None:
    before = run_model(tiny, 2, [80])
    tiny.backend.set_conditioning(2, tiny.encode_text("a long text about quite another music"))
    tiny.backend.forward(batch((2, 0, RANDOM.integers(0, 2049, (4, 200)))))
    assert torch.equal(run_model(tiny, 2, [80]), before)


def test_packed_weights_change_only_the_last_bits(tiny: LoadedModel, tiny_checkpoint: Path) -> None:
    eager = load(tiny_checkpoint, backend="eager")
    assert torch.allclose(run_model(eager, 0, [80]), run_model(tiny, 0, [80]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_lower_precision_is_near_the_full_one(
    tiny: LoadedModel, tiny_checkpoint: Path, precision: str
) -> None:
    low = load(tiny_checkpoint, precision=precision)
    full = run_model(tiny, 0, [80])
    difference = (run_model(low, 0, [80]) - full).abs().max()
    assert 0 < difference < 0.05 * full.abs().max()


def test_the_text_changes_only_the_conditional_row(tiny: LoadedModel) -> None:
    conditional, unconditional = run_model(tiny, 0, [80])
    tiny.backend.set_conditioning(1, tiny.encode_text("heavy metal"))
    other, same = tiny.backend.forward(batch((1, 0, CODES)))
    assert torch.equal(unconditional, same) and not torch.equal(conditional, other)


def embedded(positions: int) -> Tensor:
    """The first positions of TOKENS as embeddings: [positions, dim]."""
    embeddings = weights(config()).embeddings
    parts = [table[row[:positions]] for table, row in zip(embeddings, TOKENS, strict=True)]
    return torch.stack(parts).sum(0)


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("length", [1, 5])
def test_a_prefix_computes_as_the_tokens_it_embeds(rotary: bool, length: int) -> None:
    model = backend(config(rotary=rotary))
    whole = run(model, conditioning())
    prefix = embedded(length).expand(2, -1, -1)
    begin(model, 1, replace(conditioning(), prefix=prefix))
    for index, (start, count) in enumerate([(0, 6 - length), (6 - length, 1), (7 - length, 1)]):
        if count:
            tokens = TOKENS[:, length + start : length + start + count]
            logits = model.forward(batch((1, start, tokens)))
            assert torch.allclose(logits, whole[index], rtol=0, atol=1e-5)


def test_each_row_has_a_prefix_of_its_own() -> None:
    model = backend(config())
    prefix = torch.stack([embedded(3), embedded(3).flip(0)])
    begin(model, 0, replace(conditioning(), prefix=prefix))
    both = feed(model, 0, [4, 1, 1])
    for row in (0, 1):
        begin(model, 1, replace(conditioning(), prefix=prefix[[row]].expand(2, -1, -1)))
        assert torch.allclose(feed(model, 1, [4, 1, 1])[:, row], both[:, row], rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend_name", ["packed", pytest.param("native", marks=needs_native)])
@pytest.mark.parametrize("chunks", [[1] * 12, [3, 3, 6], [4, 8], [7, 5]])
def test_a_prefix_is_the_same_to_the_bit_in_any_chunks(
    backend_name: str, chunks: list[int]
) -> None:
    """A chunk may hold the end of the prefix and the first codes; another sequence decodes beside
    it."""
    shape = config(cross_attention=False)
    new, cpu = BACKENDS[backend_name], torch.device("cpu")
    model = new(weights(shape), 4, POSITIONS, cpu, torch.float32)
    states = Conditioning((None, None), torch.stack([text(1, tokens=7), text(2, tokens=7)]))
    expected = run(model, states)[-1]
    begin(model, 1, Conditioning((None, None), torch.stack([text(3), text(4)])))
    model.set_conditioning(2, states)
    known = np.concatenate([TOKENS[:, :7], TOKENS], axis=1)  # tokens of a prefix mean nothing
    start = 0
    for step, length in enumerate(chunks):
        chunk = (2, start - 7, known[:, start : start + length])
        model.forward(batch((1, step, TOKENS[:, [step]]), chunk))
        start += length
    assert torch.equal(feed(model, 2, [1] * 5, start=5)[-1], expected)


@pytest.mark.parametrize("rotary", [False, True])
def test_a_model_without_cross_attention_runs(rotary: bool) -> None:
    plain, crossed = config(rotary=rotary, cross_attention=False), config(rotary=rotary)
    model = backend(plain)
    nothing = Conditioning((None, None))
    logits = run(model, nothing)
    assert torch.equal(logits[:, 0], logits[:, 1])  # nothing tells the rows apart
    with_text = replace(weights(crossed), config=plain)
    without = [replace(layer, cross_attention=None) for layer in with_text.layers]
    assert torch.allclose(
        run(backend(plain, of=replace(with_text, layers=without)), nothing),
        run(backend(crossed), nothing),
        rtol=0,
        atol=1e-5,
    )


def test_a_negative_prompt_changes_only_the_last_row() -> None:
    model = backend(config())
    plain = run(model, Conditioning((text(1), None)))
    negative = run(model, Conditioning((text(1), text(2))), slot=1)
    alone = run(model, Conditioning((text(2), None)), slot=2)
    assert torch.equal(negative[:, 0], plain[:, 0])
    assert torch.equal(negative[:, 1], alone[:, 0])
    assert not torch.equal(negative[:, 1], plain[:, 1])


@pytest.mark.parametrize("rotary", [False, True])
def test_an_exchanged_text_counts_from_its_position(rotary: bool) -> None:
    """The cache of earlier positions stays as it was computed."""
    model = backend(config(rotary=rotary))
    model.set_conditioning(0, conditioning(1))
    feed(model, 0, [1] * 7)
    model.set_conditioning(0, conditioning(2))
    exchanged = feed(model, 0, [1, 1, 1], start=7)
    model.set_conditioning(1, conditioning(1))
    feed(model, 1, [7])
    model.set_conditioning(1, conditioning(2))
    assert torch.equal(feed(model, 1, [1, 1, 1], start=7), exchanged)
    model.set_conditioning(2, conditioning(1))
    kept = feed(model, 2, [7, 1, 1, 1])[1:]
    assert torch.equal(kept[:, 1], exchanged[:, 1])  # the null text is the same
    assert not torch.equal(kept[:, 0], exchanged[:, 0])


def test_an_exchange_back_leaves_no_trace_in_the_cache() -> None:
    model = backend(config())
    whole = run(model, conditioning(1))
    model.set_conditioning(1, conditioning(1))
    feed(model, 1, [6])
    model.set_conditioning(1, conditioning(2))
    model.set_conditioning(1, conditioning(1))
    assert torch.equal(feed(model, 1, [1, 1, 1, 1], start=6), whole[1:])


MIXED = {
    0: Conditioning((text(1), None)),
    1: Conditioning((text(2, tokens=9), text(3))),
    2: Conditioning((None, None)),
    3: Conditioning((text(4),)),
}


@pytest.mark.parametrize("chunk", [1, 5])
def test_batch_mates_with_other_rows_do_not_disturb(chunk: int) -> None:
    """To the bit, in decode and beside a prefill."""
    model = backend(config())
    for slot, one in MIXED.items():
        model.set_conditioning(slot, one)
    alone = {slot: _last(model, slot, chunk) for slot in MIXED}
    for slot in MIXED:
        feed(model, slot, [slot + 2])
    mates = [_next(slot, chunk if slot == 1 else 1) for slot in (3, 1, 0, 2)]
    rows = [len(MIXED[slot].cross) for slot in (3, 1, 0, 2)]
    together = model.forward(batch(*mates)).split(rows)
    for slot, logits in zip((3, 1, 0, 2), together, strict=True):
        assert torch.equal(logits, alone[slot])


def _next(slot: int, count: int) -> tuple[int, int, np.ndarray]:
    return slot, slot + 2, TOKENS[:, slot + 2 : slot + 2 + count]


def _last(model: Backend, slot: int, chunk: int) -> Tensor:
    """The logits after slot + 2 known positions and the next ones."""
    feed(model, slot, [slot + 2])
    return model.forward(batch(_next(slot, chunk if slot == 1 else 1)))


def test_the_order_of_a_batch_does_not_matter() -> None:
    model = backend(config())
    for slot in (0, 1):
        model.set_conditioning(slot, conditioning(slot))
    parts = {slot: (slot, 0, TOKENS[:, slot : slot + 3 + slot]) for slot in (0, 1)}
    there = model.forward(batch(parts[0], parts[1])).split(2)
    back = model.forward(batch(parts[1], parts[0])).split(2)
    assert torch.equal(there[0], back[1]) and torch.equal(there[1], back[0])
