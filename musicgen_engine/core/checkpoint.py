"""A checkpoint in audiocraft's format, taken apart."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partialmethod
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from musicgen_engine.core.audiocraft_imports import light_imports
from musicgen_engine.core.codec import audio_encoder, streaming_codec
from musicgen_engine.core.melody import SPECTRUM, MelodyEncoder
from musicgen_engine.core.text_encoder import TextEncoder
from musicgen_engine.core.unsupported import Unsupported, check_finite, require
from musicgen_engine.hub import CODEC, LM
from musicgen_engine.model.delay_pattern import DelayPattern
from musicgen_engine.model.one_thread import one_thread
from musicgen_engine.model.streaming_codec import StreamingCodec
from musicgen_engine.model.transformer import (
    AttentionWeights,
    LayerWeights,
    TransformerConfig,
    Weights,
)
from protocol.constants import FRAME_RATE, PITCH_CLASSES, SAMPLE_RATE, Codes, Samples
from protocol.request import GenerationRequest

# Loading a checkpoint must not run code from it, whatever the environment says: the first variable
# would allow it, the second forbids it to every caller.
os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"

with light_imports():
    import huggingface_hub.constants
    import torch
    import transformers.utils.logging
    from audiocraft.models import builders, loaders
    from audiocraft.modules.codebooks_patterns import DelayedPatternProvider
    from omegaconf import OmegaConf
    from torch import Tensor, nn
    from torch.utils import serialization
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
# Its first call compiles hundreds of patterns. Here it happens before engines are forked.
get_checkpoint_conversion_mapping("t5")  # type: ignore[no-untyped-call]

PARTS = {"xp.cfg", "best_state"}  # of each file
FUSION_WAYS = ("sum", "prepend", "cross", "input_interpolate")
TEXT, MELODY = {"description": "t5"}, {"self_wav": "chroma_stem"}  # conditions and their encoders
# Ways of a model with a melody to use each: the text stands behind it, or is for the
# cross-attention, as that of musicgen-tiny-melody.
MELODY_FUSIONS = (
    {"prepend": ["description", "self_wav"]},
    {"prepend": ["self_wav"], "cross": ["description"]},
)
CHROMA = {"sample_rate": SAMPLE_RATE, "n_chroma": PITCH_CLASSES, "argmax": True}
OF_TRAINING = ("cache_path", "match_len_on_eval", "eval_wavs", "n_eval_wavs")
MELODY_WEIGHTS = "condition_provider.conditioners.self_wav."


@dataclass(frozen=True)
class Checkpoint:
    """`encode_audio` turns audio of any number of channels, at the given sample rate, into codes.
    `melody` is None for a model that takes no melody."""

    weights: Weights
    pattern: DelayPattern
    codec: StreamingCodec
    text: TextEncoder
    encode_audio: Callable[[Samples, int], Codes]
    melody: MelodyEncoder | None


@one_thread()  # loading is many small operations
def load(folder: Path, device: torch.device) -> Checkpoint:
    """Load state_dict.bin and compression_state_dict.bin from `folder`.

    Text encoder and codec go to `device`; the transformer's weights stay on the CPU, for the
    backend to place.

    A text encoder in a folder beside them (such as `t5-small`) comes before the hub's: audiocraft
    asks for it by name, and that name finds a folder of the working directory first. So this
    function changes the working directory; an engine process has one model.

    Raises:
        Unsupported: it names the part that the engine has no counterpart for.
    """
    # All files are on the disk by now, see hub.fetch. Without this, transformers asks the hub for
    # a newer version of each file, and waits long for a hub that does not answer.
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    folder = folder.resolve()
    os.chdir(folder)
    with light_imports(), _borrowed():
        # Before much is read.
        package, codec_package = [_checked(folder / file) for file in (LM, CODEC)]
        melody_config, melody_state = _take_melody(package)
        lm = _language_model(package)
        codec = loaders.load_compression_model(str(folder), device="cpu")
    if "pretrained" in codec_package:  # the file names another one, whose weights are read here
        check_finite("the codec", codec.state_dict())
    codec = builders.get_wrapped_compression_model(codec, lm.cfg)
    pattern = _pattern(lm)
    require(
        (codec.num_codebooks, codec.cardinality) == (pattern.codebooks, pattern.special_token),
        "its codec has other codebooks",
    )
    streaming = streaming_codec(codec)
    codec.to(device)
    streaming.to(device)
    encode_audio = audio_encoder(codec, streaming.channels, device)
    melody = None
    if melody_config:
        seconds = lm.cfg.dataset.segment_duration
        melody = MelodyEncoder(melody_config, melody_state, seconds, streaming.channels, device)
    text = TextEncoder(lm, melody, device)
    return Checkpoint(_weights(lm), pattern, streaming, text, encode_audio, melody)


def _take_melody(package: Any) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    """Remove from the package the encoder of melodies, its configuration and its weights:
    audiocraft's would instantiate a separator."""
    config, state = OmegaConf.create(package["xp.cfg"]), package["best_state"]
    melody = config.conditioners.pop("self_wav", None)
    package["xp.cfg"] = OmegaConf.to_yaml(config)
    names = [name for name in state if name.startswith(MELODY_WEIGHTS)]
    weights = {name.removeprefix(MELODY_WEIGHTS): state.pop(name) for name in names}
    return (dict(melody.chroma_stem) if melody else None), weights


def _language_model(package: Any) -> Any:
    """As audiocraft's `load_lm_model`, of a file that has been read."""
    config = OmegaConf.create(package["xp.cfg"])
    config.device, config.dtype = "cpu", "float32"
    model = builders.get_lm_model(config)
    model.load_state_dict(package["best_state"])
    model.eval()
    model.cfg = config
    return model


@contextmanager
def _borrowed() -> Iterator[None]:
    """Modules that are built inside take the tensors of a checkpoint as they lie in its file.

    They get no random weights first and no copies, so memory is taken once: by the backend.
    """
    initialisers = {
        name: value
        for name, value in vars(nn.init).items()
        if name.endswith("_") and not name.startswith("__")
    }
    load_state_dict = nn.Module.load_state_dict
    vars(nn.init).update(dict.fromkeys(initialisers, lambda tensor, *_, **__: tensor))
    nn.Module.load_state_dict = partialmethod(load_state_dict, assign=True)  # type: ignore[assignment]
    mmap, serialization.config.load.mmap = serialization.config.load.mmap, True
    try:
        yield
    finally:
        vars(nn.init).update(initialisers)
        nn.Module.load_state_dict = load_state_dict  # type: ignore[method-assign]
        serialization.config.load.mmap = mmap


def _checked(file: Path) -> Any:
    """The content of a checkpoint's file."""
    try:
        package: Any = torch.load(file, weights_only=True)
    except UnpicklingError:
        raise Unsupported(f"{file.name} holds more than weights, so it could run code") from None
    known = isinstance(package, dict) and ("pretrained" in package or package.keys() >= PARTS)
    require(known, f"{file.name} is not one that audiocraft.utils.export writes")
    if file.name == LM:
        check(package)
    check_finite(file.name, package.get("best_state", {}))
    return package


def check(package: Any) -> None:
    """Check what audiocraft would fail on while it builds the model, or not notice at all.

    Raises:
        Unsupported: the model is of another kind.
    """
    config = OmegaConf.create(package["xp.cfg"])
    kinds = {name: kind.model for name, kind in config.conditioners.items() if name != "args"}
    require(config.lm_model == "transformer_lm", f"it is a {config.lm_model}")
    require(kinds in (TEXT, TEXT | MELODY), f"it is conditioned on {', '.join(kinds)}")
    ways = {way: sorted(config.fuser[way]) for way in FUSION_WAYS if config.fuser[way]}
    require(not config.fuser.cross_attention_pos_emb, "its text has positions")
    if kinds == TEXT:
        alone = ways == {"cross": ["description"]}
        require(alone, "its text is not for the cross-attention alone")
    else:
        require(ways in MELODY_FUSIONS, "its melody does not stand before its codes")
        require(not config.transformer_lm.two_step_cfg, "its guidance takes two steps")
        chroma = config.conditioners.self_wav.chroma_stem
        wrong = [name for name, value in CHROMA.items() if chroma.get(name) != value]
        unknown = sorted({*chroma} - {*CHROMA, *SPECTRUM, *OF_TRAINING})
        require(not wrong + unknown, f"the {', '.join(wrong + unknown)} of its melody")
    positions = config.transformer_lm.positional_embedding
    require(positions in ("sin", "rope"), f"its positions are {positions}")
    require(not config.transformer_lm.xpos, "its rotary positions fade")
    require(config.transformer_lm.causal, "it is not causal")


def _pattern(lm: Any) -> DelayPattern:
    pattern = lm.pattern_provider
    require(
        type(pattern) is DelayedPatternProvider
        and not (pattern.flatten_first or pattern.empty_initial)
        and min(pattern.delays) == 0
        and max(pattern.delays) <= len(pattern.delays),
        "its codebooks follow another pattern than delays from 0 on",
    )
    window = int(lm.cfg.dataset.segment_duration * FRAME_RATE)
    stride = GenerationRequest.extend_stride
    require(stride * FRAME_RATE < window, f"it was trained on less than {stride:g} s at a time")
    return DelayPattern(tuple(pattern.delays), lm.card, window)


def _weights(lm: Any) -> Weights:
    """The transformer's weights; `lm` loses its layers one by one as they are taken."""
    transformer = lm.transformer
    require(transformer.positional_scale == 1, "its positions are scaled")
    require(transformer.max_period == 10_000, "its positions have another period")
    require(lm.out_norm is not None, "it normalises behind the layers")
    require(not any(linear.bias is not None for linear in lm.linears), "its heads have biases")
    embeddings = torch.stack([embedding.weight for embedding in lm.emb])
    first = transformer.layers[0]
    _layer(first)  # an unsupported one is refused here, before a backend takes the layers
    codebooks, tokens, dim = embeddings.shape
    config = TransformerConfig(
        layers=len(transformer.layers),
        dim=dim,
        heads=first.self_attn.num_heads,
        ffn_dim=first.linear1.out_features,
        codebooks=codebooks,
        vocab_size=tokens - 1,
        rotary=transformer.rope is not None,
        cross_attention=first.cross_attention is not None,
    )
    heads = torch.cat([linear.weight for linear in lm.linears])
    frequencies = transformer.rope.frequencies if transformer.rope else None
    layers, norm = _layers(transformer.layers), _norm(lm.out_norm)
    return Weights(config, embeddings, layers, norm, heads, frequencies)


def _layers(layers: nn.ModuleList) -> Iterator[LayerWeights]:
    while layers:
        yield _layer(layers.pop(0))


def _layer(layer: Any) -> LayerWeights:
    require(isinstance(layer.layer_scale_1, nn.Identity), "its layers are scaled")
    require(layer.activation is nn.functional.gelu, "its activation is not GELU")
    require(layer.linear1.bias is None and layer.linear2.bias is None, "its layers have biases")
    cross = layer.cross_attention
    return LayerWeights(
        self_attention=_attention(layer.norm1, layer.self_attn),
        cross_attention=cross and _attention(layer.norm_cross, cross),
        norm_ffn=_norm(layer.norm2),
        ffn_in=layer.linear1.weight,
        ffn_out=layer.linear2.weight,
    )


def _attention(norm: nn.LayerNorm, attention: Any) -> AttentionWeights:
    require(not attention.qk_layer_norm, "its queries and keys are normalised")
    require(attention.kv_repeat == 1, "its heads share keys")
    require(attention.past_context is None, "its attention has a limited reach")
    inner = attention if attention.custom else attention.mha
    require(inner.in_proj_bias is None, "its attention has biases")
    return AttentionWeights(_norm(norm), inner.in_proj_weight, inner.out_proj.weight)


def _norm(norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    require(norm.eps == 1e-5, "its norms have another epsilon")
    return norm.weight, norm.bias
