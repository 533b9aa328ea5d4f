"""The codec of a checkpoint: audiocraft's compression model, taken apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, remove_weight_norm

from musicgen_engine.core.audiocraft_imports import light_imports
from musicgen_engine.core.unsupported import Unsupported, require
from musicgen_engine.model.streaming_codec import StreamingCodec
from protocol.constants import SAMPLE_RATE, SAMPLES_PER_FRAME, Codes, Samples

with light_imports():
    from audiocraft.data.audio_utils import convert_audio
    from audiocraft.models.encodec import (
        EncodecModel,
        HFEncodecCompressionModel,
        InterleaveStereoCompressionModel,
    )
    from audiocraft.quantization.vq import ResidualVectorQuantizer

# The codec computes in float32 on a GPU too, not in TF32.
torch.backends.cudnn.allow_tf32 = False


def audio_encoder(
    codec: Any, channels: int, device: torch.device
) -> Callable[[Samples, int], Codes]:
    @torch.inference_mode()
    def encode_audio(audio: Samples, sample_rate: int) -> Codes:
        """Whole frames; the samples behind them are left out."""
        wave = convert_audio(torch.tensor(audio)[None], sample_rate, SAMPLE_RATE, channels)
        wave = wave[..., : wave.shape[-1] // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME]
        codes, _scale = codec.encode(wave.to(device))
        return np.asarray(codes[0].cpu(), np.int32)

    return encode_audio


def streaming_codec(model: Any) -> StreamingCodec:
    """The decoder and the quantizer of a compression model. The model loses its decoder."""
    channels = 1
    if isinstance(model, InterleaveStereoCompressionModel):
        require(not model.per_timestep, "its channels alternate by frames")
        model, channels = model.model, model.channels
    require(model.sample_rate == SAMPLE_RATE, f"its codec is for {model.sample_rate} Hz")
    require(model.channels == 1, "its codec mixes channels")
    if isinstance(model, HFEncodecCompressionModel):
        inner: Any = model.model  # transformers' EncodecModel
        config = inner.config
        require(not config.normalize, "its codec changes the loudness")
        require(config.chunk_length_s is None, "its codec fades segments into each other")
        layers, quantizer = inner.decoder.layers, inner.quantizer

        def dequantize(codes: Tensor) -> Tensor:
            features: Tensor = quantizer.decode(codes.transpose(0, 1))
            return features

    else:
        require(isinstance(model, EncodecModel), f"its codec is a {type(model).__name__}")
        require(not model.renormalize, "its codec changes the loudness")
        inner = model
        layers, quantizer = model.decoder.model, model.quantizer
        require(isinstance(quantizer, ResidualVectorQuantizer), "its codec has no codes")
        dequantize = quantizer.decode
    lstm: Any = getattr(layers[1], "lstm", None)  # in audiocraft's layer and in transformers'
    require(isinstance(lstm, nn.LSTM), "its codec has no LSTM")
    require(getattr(layers[1], "skip", True), "its codec's LSTM has no skip connection")
    require(not layers[0].causal, "its codec is causal")
    model.float()  # a checkpoint may be in half precision
    for module in (quantizer, layers):
        _bake_weight_norm(module)
    inner.decoder = None  # its weights go when native code takes its place
    try:
        return StreamingCodec(dequantize, layers[0], lstm, nn.Sequential(*layers[2:]), channels)
    except ValueError as error:
        raise Unsupported(f"the checkpoint is not supported: {error}") from error


def _bake_weight_norm(module: nn.Module) -> None:
    """Weights as they are, rather than computed from norms and directions at every call."""
    for layer in module.modules():
        if hasattr(layer, "weight_g"):  # torch's older way, audiocraft's
            remove_weight_norm(layer)
        elif parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight")
