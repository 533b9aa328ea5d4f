"""Writes a checkpoint of MusicGen's real structure, in any size, with random weights.

The files have the format of audiocraft's own releases (`audiocraft.utils.export`), so that
`audiocraft.models.MusicGen.get_pretrained(FOLDER)` loads them with FOLDER as working directory.
The seed is fixed: the same versions of the libraries write the same weights.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from musicgen_engine.engine import torchaudio_shim
from training.structure import CODEBOOKS, CODES, Config, Structure, codec_config, lm_config
from training.tokenizer import write_tokenizer

torchaudio_shim.install()

import audiocraft  # noqa: E402
import torch  # noqa: E402
from audiocraft.models import builders  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from transformers import T5Config, T5EncoderModel  # noqa: E402

SEED = 20
LOUDNESS = 0.1  # rms of full scale
SHARPNESS = 3.0  # standard deviation of the logits: the model prefers some codes to others


def write_text_encoder(folder: Path, structure: Structure) -> None:
    vocabulary = write_tokenizer(folder)
    config = T5Config(
        vocab_size=math.ceil(vocabulary / 64) * 64,
        d_model=structure.text_dim,
        d_kv=structure.text_head_dim,
        d_ff=structure.text_hidden,
        num_layers=structure.text_layers,
        num_heads=structure.text_heads,
        dropout_rate=0.0,
        use_cache=False,
    )
    torch.manual_seed(SEED)
    T5EncoderModel(config).save_pretrained(folder)


def codec_state(config: Config) -> Mapping[str, torch.Tensor]:
    torch.manual_seed(SEED)
    codec: Any = builders.get_compression_model(OmegaConf.create(config)).eval()
    for layer in codec.quantizer.vq.layers:
        layer._codebook.embed.normal_()
        layer._codebook.embed_avg.copy_(layer._codebook.embed)
        layer._codebook.cluster_size.fill_(1.0)
    with torch.no_grad():
        # Biases and a constant offset would drown what the codes say.
        for name, parameter in codec.decoder.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
        last = codec.decoder.model[-1].conv.conv
        last.weight_v -= last.weight_v.mean(dim=-1, keepdim=True)
        noise = codec.decode(torch.randint(CODES, (1, CODEBOOKS, 500)))
        # Two digits, so that rounding on another processor does not change the weights.
        last.weight_g *= float(f"{LOUDNESS / noise.std().item():.2g}")
    return codec.state_dict()  # type: ignore[no-any-return]


def lm_state(config: Config, structure: Structure, folder: Path) -> Mapping[str, torch.Tensor]:
    torch.manual_seed(SEED)
    home = Path.cwd()
    os.chdir(folder)  # where T5Conditioner finds the text encoder by its name
    lm: Any = builders.get_lm_model(OmegaConf.create(config))
    os.chdir(home)
    with torch.no_grad():
        for linear in lm.linears:
            linear.weight *= SHARPNESS
        for embedding in lm.emb:
            embedding.weight *= structure.code_strength
        text = lm.condition_provider.conditioners["description"]
        text.output_proj.weight *= structure.text_strength
    return lm.state_dict()  # type: ignore[no-any-return]


def save(file: Path, config: Config, state: Mapping[str, torch.Tensor]) -> None:
    """Writes what `audiocraft.utils.export` writes, in half precision: it loads into float32."""
    package = {
        "best_state": {name: tensor.half() for name, tensor in state.items()},
        "xp.cfg": OmegaConf.to_yaml(OmegaConf.create(config)),
        "version": audiocraft.__version__,
        "exported": True,
    }
    torch.save(package, file)


def write_checkpoint(folder: Path, structure: Structure, channels: int = 1) -> None:
    """Writes the checkpoint into `folder`, which is made if need be; 1 or 2 channels of audio."""
    text_encoder = folder / structure.text_encoder
    text_encoder.mkdir(parents=True, exist_ok=True)
    write_text_encoder(text_encoder, structure)
    config = codec_config(structure)
    save(folder / "compression_state_dict.bin", config, codec_state(config))
    config = lm_config(structure, channels)
    save(folder / "state_dict.bin", config, lm_state(config, structure, folder))
    for file in [*folder.glob("*.bin"), *text_encoder.iterdir()]:
        file.chmod(0o644)
