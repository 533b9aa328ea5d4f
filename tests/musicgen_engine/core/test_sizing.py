"""The table of docs/operations.md, from the engine's own formula."""

import re

import pytest

from musicgen_engine.config import MAX_SLOTS
from musicgen_engine.core.checkpoint import MAX_TOKENS
from musicgen_engine.core.memory import GB, Room
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
    numbers, cached = config.parameters, config.cached_numbers(POSITIONS, MAX_TOKENS)
    row = re.search(rf"^\| {name} \|(.*)\|$", (ROOT / "docs/operations.md").read_text(), re.M)
    assert row
    documented = [float(cell.removesuffix(" GB ")) for cell in row[1].split("|")]
    assert documented[:6] == [
        pytest.approx(size / GB, abs=0.06 if kind == 0 else 0.006)
        for bytes in (4, 2, 1)
        for kind, size in enumerate((numbers * bytes, cached * bytes))
    ]
    for gigabytes, slots in zip((24, 80), documented[6:], strict=True):
        memory = int(gigabytes * GB)
        fit = Room(memory, memory).slots(0.5, numbers * 2, cached * 2)
        assert min(fit, MAX_SLOTS["cuda"]) == slots
