"""Writes a checkpoint of MusicGen's real structure, in any size, with random weights.

    python -m training.random_checkpoint FOLDER [--channels 2]

What it plays is noise: tests and benchmarks need no more. The seed is fixed: the same versions of
the libraries write the same weights.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch

from training.checkpoint import (
    CODEC,
    LM,
    build_codec,
    build_lm,
    save,
    set_codebooks,
    write_text_encoder,
)
from training.structure import CODEBOOKS, Config, Structure, codec_config, lm_config

LOUDNESS = 0.1  # rms of full scale
SHARPNESS = 3.0  # standard deviation of the logits: the model prefers some codes to others
# How much the model minds the text and the codes before, as factors on what random initialisation
# gives. With a strong text and weak codes it repeats itself for ever.
TEXT_STRENGTH, CODE_STRENGTH = 0.2, 16.0
MINIMAL = Structure(
    layers=2,
    dim=64,
    heads=4,
    positions="sin",
    text_encoder="t5-small",
    text_layers=1,
    text_dim=512,
    text_heads=4,
    text_head_dim=16,
    text_hidden=128,
    codes=2_048,
    codec_dim=32,
    codec_filters=4,
)


def write_checkpoint(folder: Path, structure: Structure, channels: int = 1) -> None:
    """Writes the checkpoint into `folder`, which is made if need be; 1 or 2 channels of audio."""
    write_text_encoder(folder, structure)
    config = codec_config(structure)
    save(folder / CODEC, config, _codec_state(config))
    config = lm_config(structure, channels)
    save(folder / LM, config, _lm_state(config, folder))


def _codec_state(config: Config) -> Mapping[str, torch.Tensor]:
    codec = build_codec(config)
    shape = (config["rvq"]["bins"], config["seanet"]["dimension"])
    set_codebooks(codec, [torch.randn(shape) for _ in range(CODEBOOKS)])
    with torch.no_grad():
        # Biases and a constant offset would drown what the codes say.
        for name, parameter in codec.decoder.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
        last = codec.decoder.model[-1].conv.conv
        last.weight_v -= last.weight_v.mean(dim=-1, keepdim=True)
        noise = codec.decode(torch.randint(config["rvq"]["bins"], (1, CODEBOOKS, 500)))
        # Two digits, so that rounding on another processor does not change the weights.
        last.weight_g *= float(f"{LOUDNESS / noise.std().item():.2g}")
    return codec.state_dict()  # type: ignore[no-any-return]


def _lm_state(config: Config, folder: Path) -> Mapping[str, torch.Tensor]:
    lm = build_lm(config, folder)
    with torch.no_grad():
        for linear in lm.linears:
            linear.weight *= SHARPNESS
        for embedding in lm.emb:
            embedding.weight *= CODE_STRENGTH
        text = lm.condition_provider.conditioners["description"]
        text.output_proj.weight *= TEXT_STRENGTH
    return lm.state_dict()  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--channels", type=int, choices=(1, 2), default=1)
    arguments = parser.parse_args()
    write_checkpoint(arguments.folder, MINIMAL, arguments.channels)


if __name__ == "__main__":
    main()
