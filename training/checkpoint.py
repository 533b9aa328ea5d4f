"""Models and files of a checkpoint in the format of audiocraft's releases.

`audiocraft.models.MusicGen.get_pretrained(FOLDER)` loads them with FOLDER as working directory.
"""

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import audiocraft
import torch
from audiocraft.models import builders
from omegaconf import OmegaConf
from transformers import T5Config, T5EncoderModel

from training.structure import Config, Structure
from training.tokenizer import write_tokenizer

LM, CODEC = "state_dict.bin", "compression_state_dict.bin"
MELODY = "condition_provider.conditioners.self_wav"  # in the state of the language model
SEED = 20


def write_text_encoder(folder: Path, structure: Structure) -> None:
    """Writes a tokenizer and a T5 with random weights into a subfolder of `folder`."""
    folder = folder / structure.text_encoder
    folder.mkdir(parents=True, exist_ok=True)
    tokens = write_tokenizer(folder)
    config = T5Config(
        vocab_size=math.ceil(tokens / 64) * 64,
        d_model=structure.text_dim,
        d_kv=structure.text_head_dim,
        d_ff=structure.text_ffn_dim,
        num_layers=structure.text_layers,
        num_heads=structure.text_heads,
        dropout_rate=0.0,
        use_cache=False,
    )
    torch.manual_seed(SEED)
    T5EncoderModel(config).save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)


def build_lm(config: Config, folder: Path) -> Any:
    """audiocraft's language model with random weights, and the text encoder in `folder`."""
    torch.manual_seed(SEED)
    home = Path.cwd()
    os.chdir(folder)  # where T5Conditioner finds the text encoder by its name
    try:
        return builders.get_lm_model(OmegaConf.create(config))
    finally:
        os.chdir(home)


def melody_state(projection: torch.nn.Linear, radix2_exp: int) -> dict[str, torch.Tensor]:
    """The tensors of audiocraft's encoder of melodies, which would also download a separator."""
    return {
        f"{MELODY}.output_proj.weight": projection.weight.detach(),
        f"{MELODY}.output_proj.bias": projection.bias.detach(),
        f"{MELODY}.chroma.spec.window": torch.hann_window(2**radix2_exp),
    }


def build_codec(config: Config) -> Any:
    """audiocraft's EnCodec, with random weights."""
    torch.manual_seed(SEED)
    return builders.get_compression_model(OmegaConf.create(config)).eval()


def set_codebooks(codec: Any, codebooks: Iterable[torch.Tensor]) -> None:
    """Writes a codebook [vocab_size, dimension] into each quantizer of the codec."""
    for layer, codebook in zip(codec.quantizer.vq.layers, codebooks, strict=True):
        layer._codebook.embed.copy_(codebook)
        layer._codebook.embed_avg.copy_(codebook)
        layer._codebook.cluster_size.fill_(1.0)


def export(file: Path, config: Config, state: Mapping[str, torch.Tensor]) -> None:
    """Writes a model in half precision, as audiocraft's releases; it loads into float32.

    The frequencies of rotary positions stay as they are: far positions multiply their rounding.
    """
    package = {
        "best_state": {
            name: tensor if name.endswith("rope.frequencies") else tensor.half()
            for name, tensor in state.items()
        },
        "xp.cfg": OmegaConf.to_yaml(OmegaConf.create(config)),
        "version": audiocraft.__version__,
        "exported": True,
    }
    save_atomically(package, file)  # an engine may have mapped the old file
    file.chmod(0o644)


def save_atomically(state: Any, file: Path) -> None:
    """Saves a state; a stop while it writes leaves the old file whole."""
    torch.save(state, file.with_suffix(".new"))
    file.with_suffix(".new").rename(file)
