"""Makes the checkpoint of musicgen-tiny: MusicGen's real structure, small, with random weights.

    python -m training.tiny FOLDER [--channels 2]

What it plays is noise: it is there to run the whole service without a download.
"""

import argparse
from pathlib import Path

from training.checkpoint import write_checkpoint
from training.structure import Structure

TINY = Structure(
    layers=2,
    dim=64,
    heads=4,
    text_encoder="t5-small",
    text_layers=1,
    text_dim=512,
    text_heads=4,
    text_head_dim=16,
    text_hidden=128,
    codec_dim=32,
    codec_filters=4,
    text_strength=4.0,
    code_strength=1.0,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--channels", type=int, choices=(1, 2), default=1)
    arguments = parser.parse_args()
    write_checkpoint(arguments.folder, TINY, arguments.channels)


if __name__ == "__main__":
    main()
