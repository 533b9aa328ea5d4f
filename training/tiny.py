"""Makes the checkpoint of musicgen-tiny: MusicGen's real structure, small, with random weights.

    python -m training.tiny FOLDER [--channels 2]

The files have the format of audiocraft's own releases (`audiocraft.utils.export`), so that
`audiocraft.models.MusicGen.get_pretrained(FOLDER)` loads them with FOLDER as working directory.
What it plays is noise: it is there to run the whole service without a download. The seed is fixed:
the same versions of the libraries write the same weights.
"""

import argparse
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from musicgen_engine import torchaudio_shim
from training.tokenizer import write_tokenizer

torchaudio_shim.install()

import audiocraft  # noqa: E402
import torch  # noqa: E402
from audiocraft.models import builders  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from transformers import T5Config, T5EncoderModel  # noqa: E402

SEED = 20
SAMPLE_RATE = 32_000
CODEBOOKS = 4
CODES = 2_048
# T5Conditioner knows the names of the public T5 models only, and their widths.
TEXT_ENCODER, TEXT_DIM = "t5-small", 512
LOUDNESS = 0.1  # rms of full scale
SHARPNESS = 3.0  # standard deviation of the logits: the model prefers some codes to others
TEXT_STRENGTH = 4.0

Config = dict[str, Any]


def codec_config() -> Config:
    """EnCodec at 32 kHz and 50 frames a second, as facebook/encodec_32khz but for the sizes."""
    return {
        "device": "cpu",
        "compression_model": "encodec",
        "sample_rate": SAMPLE_RATE,
        "channels": 1,
        "encodec": {
            "autoencoder": "seanet",
            "quantizer": "rvq",
            "sample_rate": SAMPLE_RATE,
            "channels": 1,
            "causal": False,
            "renormalize": False,
        },
        "seanet": {
            "dimension": 32,
            "channels": 1,
            "causal": False,
            "n_filters": 4,
            "n_residual_layers": 1,
            "ratios": [8, 5, 4, 4],
            "activation": "ELU",
            "activation_params": {"alpha": 1.0},
            "norm": "weight_norm",
            "norm_params": {},
            "kernel_size": 7,
            "residual_kernel_size": 3,
            "last_kernel_size": 7,
            "dilation_base": 2,
            "pad_mode": "constant",
            "true_skip": True,
            "compress": 2,
            "lstm": 2,
            "disable_norm_outer_blocks": 0,
            "encoder": {},
            "decoder": {"trim_right_ratio": 1.0, "final_activation": None},
        },
        "rvq": {"n_q": CODEBOOKS, "q_dropout": False, "bins": CODES, "kmeans_init": False},
    }


def lm_config(channels: int) -> Config:
    """The transformer, as facebook/musicgen-small (or musicgen-stereo-small) but for the sizes."""
    delays = [delay for delay in range(CODEBOOKS) for _ in range(channels)]
    return {
        "device": "cpu",
        "dtype": "float32",
        "solver": "musicgen",
        "sample_rate": SAMPLE_RATE,
        "channels": channels,
        "compression_model_n_q": None,
        "interleave_stereo_codebooks": {"use": channels == 2, "per_timestep": False},
        "dataset": {"segment_duration": 30},
        "lm_model": "transformer_lm",
        "transformer_lm": {
            "n_q": len(delays),
            "card": CODES,
            "dim": 64,
            "num_heads": 4,
            "num_layers": 2,
            "hidden_scale": 4,
            "dropout": 0.0,
            "emb_lr": None,
            "activation": "gelu",
            "norm": "layer_norm",
            "norm_first": True,
            "bias_ff": False,
            "bias_attn": False,
            "bias_proj": False,
            "past_context": None,
            "causal": True,
            "custom": False,
            "memory_efficient": True,
            "attention_as_float32": False,
            "layer_scale": None,
            "positional_embedding": "sin",
            "xpos": False,
            "checkpointing": "none",
            "weight_init": "gaussian",
            "depthwise_init": "current",
            "zero_bias_init": True,
            "cross_attention": False,
            "qk_layer_norm": False,
            "qk_layer_norm_cross": False,
            "attention_dropout": None,
            "kv_repeat": 1,
            "two_step_cfg": False,
        },
        "codebooks_pattern": {
            "modeling": "delay",
            "delay": {"delays": delays, "flatten_first": 0, "empty_initial": 0},
        },
        "fuser": {
            "cross_attention_pos_emb": False,
            "cross_attention_pos_emb_scale": 1,
            "sum": [],
            "prepend": [],
            "cross": ["description"],
            "input_interpolate": [],
        },
        "conditioners": {
            "args": {},
            "description": {
                "model": "t5",
                "t5": {
                    "name": TEXT_ENCODER,
                    "finetune": False,
                    "word_dropout": 0.0,
                    "normalize_text": False,
                },
            },
        },
        "classifier_free_guidance": {"training_dropout": 0.3, "inference_coef": 3.0},
        "attribute_dropout": {},
    }


def write_text_encoder(folder: Path) -> None:
    vocabulary = write_tokenizer(folder)
    config = T5Config(
        vocab_size=math.ceil(vocabulary / 64) * 64,
        d_model=TEXT_DIM,
        d_kv=16,
        d_ff=128,
        num_layers=1,
        num_heads=4,
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


def lm_state(config: Config, folder: Path) -> Mapping[str, torch.Tensor]:
    torch.manual_seed(SEED)
    home = Path.cwd()
    os.chdir(folder)  # where T5Conditioner finds the text encoder by its name
    lm: Any = builders.get_lm_model(OmegaConf.create(config))
    os.chdir(home)
    with torch.no_grad():
        for linear in lm.linears:
            linear.weight *= SHARPNESS
        lm.condition_provider.conditioners["description"].output_proj.weight *= TEXT_STRENGTH
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


def write_checkpoint(folder: Path, channels: int = 1) -> None:
    """Writes the checkpoint into `folder`, which is made if need be; 1 or 2 channels of audio."""
    (folder / TEXT_ENCODER).mkdir(parents=True, exist_ok=True)
    write_text_encoder(folder / TEXT_ENCODER)
    config = codec_config()
    save(folder / "compression_state_dict.bin", config, codec_state(config))
    config = lm_config(channels)
    save(folder / "state_dict.bin", config, lm_state(config, folder))
    for file in [*folder.glob("*.bin"), *(folder / TEXT_ENCODER).iterdir()]:
        file.chmod(0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--channels", type=int, choices=(1, 2), default=1)
    arguments = parser.parse_args()
    write_checkpoint(arguments.folder, arguments.channels)


if __name__ == "__main__":
    main()
