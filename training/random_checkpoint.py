"""Writes a checkpoint with MusicGen's structure, any size and random weights.

    python -m training.random_checkpoint FOLDER [--channels 2] [--melody]

Its music is noise, which is enough for tests and benchmarks. The seed is fixed, so the same
versions of the libraries write the same weights.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch

from protocol.constants import PITCH_CLASSES
from training.checkpoint import (
    CODEC,
    LM,
    build_codec,
    build_lm,
    export,
    melody_state,
    set_codebooks,
    write_text_encoder,
)
from training.structure import (
    CODEBOOKS,
    Config,
    Structure,
    codec_config,
    lm_config,
    melody_lm_config,
)

RMS = 0.1  # of the audio; full scale is 1
LOGIT_SCALE = 3.0  # standard deviation of the logits, so that the model prefers some codes
# Factors on the random initialisation: with strong text and weak codes the model repeats itself.
TEXT_SCALE, CODE_SCALE = 0.2, 16.0
MELODY_SCALE = 8.0
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
    text_ffn_dim=128,
    vocab_size=2_048,
    codec_dim=32,
    codec_filters=4,
)


def write_checkpoint(
    folder: Path, structure: Structure, channels: int = 1, melody: bool = False
) -> None:
    """Writes the checkpoint, for 1 or 2 channels of audio, and makes `folder` if necessary.

    With `melody` it is one that takes a melody.
    """
    write_text_encoder(folder, structure)
    config = codec_config(structure)
    export(folder / CODEC, config, _codec_state(config))
    config = (melody_lm_config if melody else lm_config)(structure, channels)
    export(folder / LM, config, _lm_state(config, folder))


def _codec_state(config: Config) -> Mapping[str, torch.Tensor]:
    codec = build_codec(config)
    shape = (config["rvq"]["bins"], config["seanet"]["dimension"])
    set_codebooks(codec, [torch.randn(shape) for _ in range(CODEBOOKS)])
    with torch.no_grad():
        # Biases and a constant offset would drown the codes.
        for name, parameter in codec.decoder.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
        last = codec.decoder.model[-1].conv.conv
        last.weight_v -= last.weight_v.mean(dim=-1, keepdim=True)
        noise = codec.decode(torch.randint(config["rvq"]["bins"], (1, CODEBOOKS, 500)))
        # Two digits, so that another processor's rounding does not change the weights.
        last.weight_g *= float(f"{RMS / noise.std().item():.2g}")
    return codec.state_dict()  # type: ignore[no-any-return]


def _lm_state(config: Config, folder: Path) -> Mapping[str, torch.Tensor]:
    text_conditioners = dict(config["conditioners"], args={})
    # audiocraft's would download a separator for melodies; its own weights are these.
    melody = text_conditioners.pop("self_wav", None)
    lm = build_lm({**config, "conditioners": text_conditioners}, folder)
    with torch.no_grad():
        for linear in lm.linears:
            linear.weight *= LOGIT_SCALE
        for embedding in lm.emb:
            embedding.weight *= CODE_SCALE
        text = lm.condition_provider.conditioners["description"]
        text.output_proj.weight *= TEXT_SCALE
    state: dict[str, torch.Tensor] = lm.state_dict()
    if melody:
        projection = torch.nn.Linear(PITCH_CLASSES, config["transformer_lm"]["dim"])
        with torch.no_grad():
            projection.weight *= MELODY_SCALE
        state |= melody_state(projection, melody["chroma_stem"]["radix2_exp"])
    return state


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--channels", type=int, choices=(1, 2), default=1)
    parser.add_argument("--melody", action="store_true")
    arguments = parser.parse_args()
    write_checkpoint(arguments.folder, MINIMAL, arguments.channels, arguments.melody)


if __name__ == "__main__":
    main()
