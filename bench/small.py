"""A checkpoint in the exact shape of facebook/musicgen-small, with random weights: to measure on.

420 M parameters in the language model, 57 M in the codec, 110 M in the text encoder (but for the
vocabulary). How fast a model decodes does not depend on what its weights say.
"""

from pathlib import Path

from training.structure import Structure

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
    text_hidden=3072,
    codes=2_048,
    codec_dim=128,
    codec_filters=64,
)


def write_small(folder: Path) -> None:
    """Writes it into `folder` unless it is there: 1.3 GB."""
    if not (folder / "state_dict.bin").exists():
        # Imports audiocraft, which takes long.
        from training.random_checkpoint import write_checkpoint

        write_checkpoint(folder, SMALL)
