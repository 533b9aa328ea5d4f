"""A checkpoint in the exact shape of facebook/musicgen-small, with random weights.

420 M parameters in the transformer, 57 M in the codec, 110 M in the text encoder (without its
vocabulary). The speed does not depend on the values of the weights.
"""

from pathlib import Path

import numpy as np

from protocol.constants import Codes
from training.structure import CODEBOOKS, Structure

SMALL = Structure(
    layers=24,
    dim=1024,
    heads=16,
    positions="sin",
    text_encoder="t5-base",
    text_layers=12,
    text_dim=768,
    text_heads=12,
    text_head_dim=64,
    text_ffn_dim=3072,
    vocab_size=2_048,
    codec_dim=128,
    codec_filters=64,
)


def write_small(folder: Path, melody: bool = False) -> None:
    """Write the checkpoint into `folder`, 1.3 GB, unless it is there. With `melody` it is one of a
    model that takes a melody."""
    if not (folder / "state_dict.bin").exists():
        # The import of audiocraft takes long.
        from training.random_checkpoint import write_checkpoint

        write_checkpoint(folder, SMALL, melody=melody)


def random_codes(frames: int, vocab_size: int = SMALL.vocab_size) -> Codes:
    codes = np.random.default_rng(0).integers(vocab_size, size=(CODEBOOKS, frames))
    return codes.astype(np.int32)
