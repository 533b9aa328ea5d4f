"""Sizes of a MusicGen checkpoint, and its two configurations in audiocraft's format."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from protocol.constants import PITCH_CLASSES, SAMPLE_RATE, SAMPLES_PER_FRAME

CODEBOOKS = 4

Config = dict[str, Any]


@dataclass(frozen=True)
class Structure:
    """The sizes in which MusicGen checkpoints differ.

    `positions` are added sinusoids, as in facebook's checkpoints, or rotary. `text_encoder` names a
    public T5, because audiocraft's T5Conditioner knows no other, and `text_dim` is its width.
    """

    layers: int
    dim: int
    heads: int
    positions: Literal["sin", "rope"]
    text_encoder: str
    text_layers: int
    text_dim: int
    text_heads: int
    text_head_dim: int
    text_ffn_dim: int
    vocab_size: int  # of each codebook
    codec_dim: int
    codec_filters: int


# musicgen-tiny. A small model learns rhythm, which is distances, far sooner from rotary positions.
TINY = Structure(
    layers=4,
    dim=192,
    heads=6,
    positions="rope",
    text_encoder="t5-small",
    text_layers=2,
    text_dim=512,
    text_heads=2,
    text_head_dim=32,
    text_ffn_dim=128,
    vocab_size=1_024,
    codec_dim=128,
    codec_filters=16,
)

# musicgen-tiny-melody: its first layer reads the melody, and it has more codes, for the pitch
# classes that C major and C minor lack.
TINY_MELODY = replace(TINY, layers=5, vocab_size=1_280)
# Its chroma has a column for each frame, so that a frame is always as far from its column.
MELODY_SPECTRUM = {"radix2_exp": 13, "winhop": SAMPLES_PER_FRAME}


def codec_config(structure: Structure) -> Config:
    """EnCodec at 32 kHz and 50 frames per second, as facebook/encodec_32khz."""
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
            "dimension": structure.codec_dim,
            "channels": 1,
            "causal": False,
            "n_filters": structure.codec_filters,
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
        "rvq": {
            "n_q": CODEBOOKS,
            "q_dropout": False,
            "bins": structure.vocab_size,
            "kmeans_init": False,
        },
    }


def melody_lm_config(structure: Structure, channels: int) -> Config:
    """The transformer, as facebook/musicgen-melody or, for 2 channels, musicgen-stereo-melody."""
    fuser = {"prepend": ["self_wav", "description"], "cross": []}
    return _with_melody(lm_config(structure, channels), fuser, {"radix2_exp": 14})


def tiny_melody_lm_config() -> Config:
    """musicgen-tiny-melody: its text is for the cross-attention, so that it moves no position."""
    fuser = {"prepend": ["self_wav"], "cross": ["description"]}
    return _with_melody(lm_config(TINY_MELODY, channels=1), fuser, MELODY_SPECTRUM)


def _with_melody(config: Config, fuser: Config, spectrum: Config) -> Config:
    chroma = {"sample_rate": SAMPLE_RATE, "n_chroma": PITCH_CLASSES, "argmax": True}
    evaluation = {"match_len_on_eval": False, "eval_wavs": None, "n_eval_wavs": 100}
    melody = {"model": "chroma_stem", "chroma_stem": chroma | spectrum | evaluation}
    config["fuser"] |= fuser
    config["conditioners"] = {
        "args": {"merge_text_conditions_p": 0.25, "drop_desc_p": 0.5},
        "self_wav": melody,
        "description": config["conditioners"]["description"],
    }
    return config


def lm_config(structure: Structure, channels: int) -> Config:
    """The transformer, as facebook/musicgen-small or, for 2 channels, musicgen-stereo-small."""
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
            "card": structure.vocab_size,
            "dim": structure.dim,
            "num_heads": structure.heads,
            "num_layers": structure.layers,
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
            # audiocraft's memory-efficient attention loses rotary positions while streaming.
            "custom": structure.positions == "rope",
            "memory_efficient": structure.positions == "sin",
            "attention_as_float32": False,
            "layer_scale": None,
            "positional_embedding": structure.positions,
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
                    "name": structure.text_encoder,
                    "finetune": False,
                    "word_dropout": 0.0,
                    "normalize_text": False,
                },
            },
        },
        "classifier_free_guidance": {"training_dropout": 0.3, "inference_coef": 3.0},
        "attribute_dropout": {},
    }
