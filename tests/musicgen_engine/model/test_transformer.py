"""A step of the transformer, and what must not change its result."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.musicgen_engine.core.conftest import load
from torch import Tensor

from musicgen_engine.core.loaded_model import Model
from musicgen_engine.model.transformer import Piece

RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(0, 2049, (4, 80))


def run(model: Model, slot: int, pieces: Sequence[int]) -> Tensor:
    """Logits after TOKENS, seen in pieces of these lengths."""
    model.decoder.condition(slot, model.describe("slow piano"))
    start = 0
    for length in pieces:
        logits = model.decoder.step([Piece(slot, start, TOKENS[:, start : start + length])])
        start += length
    return logits


@pytest.mark.parametrize("pieces", [[8] * 10, [64, 16], [1, 79], [3] * 26 + [2]])
def test_prefill_is_the_same_to_the_bit_however_it_is_cut(tiny: Model, pieces: list[int]) -> None:
    assert torch.equal(run(tiny, 0, pieces), run(tiny, 1, [1] * 80))


@pytest.mark.parametrize("pieces", [[8] * 10, [64, 16], [1, 79]])
def test_prefill_at_rotary_positions_is_the_same_to_the_bit(
    rotary: Model, pieces: list[int]
) -> None:
    assert torch.equal(run(rotary, 0, pieces), run(rotary, 1, [1] * 80))


def test_a_slot_keeps_nothing_of_the_song_before(tiny: Model) -> None:
    before = run(tiny, 2, [80])
    tiny.decoder.condition(2, tiny.describe("a long text about quite another kind of music"))
    tiny.decoder.step([Piece(2, 0, RANDOM.integers(0, 2049, (4, 200)))])
    assert torch.equal(run(tiny, 2, [80]), before)


def test_packed_weights_change_nothing_but_the_last_bits(
    tiny: Model, tiny_checkpoint: Path
) -> None:
    plain = load(tiny_checkpoint, packed=False)
    assert torch.allclose(run(plain, 0, [80]), run(tiny, 0, [80]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_lower_precision_is_near_the_full_one(
    tiny: Model, tiny_checkpoint: Path, precision: str
) -> None:
    low = load(tiny_checkpoint, precision=precision)
    full = run(tiny, 0, [80])
    difference = (run(low, 0, [80]) - full).abs().max()
    assert 0 < difference < 0.05 * full.abs().max()


def test_the_unconditional_rows_do_not_hear_the_text(tiny: Model) -> None:
    conditional, unconditional = run(tiny, 0, [80])
    tiny.decoder.condition(1, tiny.describe("heavy metal"))
    other, same = tiny.decoder.step([Piece(1, 0, TOKENS)])
    assert torch.equal(unconditional, same) and not torch.equal(conditional, other)
