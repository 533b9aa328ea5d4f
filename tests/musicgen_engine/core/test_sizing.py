"""The table of docs/operations.md, from the engine's own formula."""

import re

import pytest
import torch

from musicgen_engine.config import MAX_SLOTS
from musicgen_engine.core.memory import GB, Room
from musicgen_engine.core.text_encoder import MAX_TOKENS
from musicgen_engine.model.transformer import TransformerConfig
from tests.conftest import ROOT

POSITIONS = 1_503  # of 30 s
SHAPES = {"small": (24, 1_024, 16), "medium": (48, 1_536, 24), "large": (48, 2_048, 32)}


@pytest.mark.parametrize("name", SHAPES)
def test_sizes_are_as_documented(name: str) -> None:
    layers, dim, heads = SHAPES[name]
    config = TransformerConfig(
        layers, dim, heads, 4 * dim, codebooks=8, vocab_size=2_048, rotary=False
    )
    row = re.search(rf"^\| {name} \|(.*)\|$", (ROOT / "docs/operations.md").read_text(), re.M)
    assert row
    documented = [float(cell.removesuffix(" GB ")) for cell in row[1].split("|")]
    assert documented[:6] == [
        size
        for precision in (torch.float32, torch.float16, torch.int8)
        for size in (
            pytest.approx(config.weight_bytes(precision) / GB, abs=0.06),
            pytest.approx(config.slot_bytes(POSITIONS, MAX_TOKENS, precision) / GB, abs=0.006),
        )
    ]
    half = torch.float16
    for gigabytes, slots in zip((24, 80), documented[6:], strict=True):
        memory = int(gigabytes * GB)
        slot = config.slot_bytes(POSITIONS, MAX_TOKENS, half)
        fit = Room(memory, memory).slots(0.5, config.weight_bytes(half), slot)
        assert min(fit, MAX_SLOTS["cuda"]) == slots
