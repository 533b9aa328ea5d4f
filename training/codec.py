"""The codec of musicgen-tiny before training: an EnCodec whose weights hold a linear transform.

The strided convolutions cut the audio into overlapping windows, and the last ones apply the
transform. Values at the ELUs are small, where an ELU is linear. The codebooks come from k-means.
Only the decoder is trained, so the codes are final before that.
"""

import math
from typing import Any

import torch
from audiocraft.modules.seanet import SEANetResnetBlock
from torch import Tensor

from protocol.constants import SAMPLES_PER_FRAME as HOP
from training.checkpoint import build_codec, set_codebooks
from training.structure import TINY, Config, Structure, codec_config
from training.transform import FEATURE_SCALE, WINDOW, Transform

# Scale of the values inside the encoder: its ELUs are all but linear there.
ENCODER_SCALE = 0.01


def config(structure: Structure = TINY) -> Config:
    """MusicGen's codec with fewer layers: no residual layers and no LSTM in the encoder."""
    config = codec_config(structure)
    config["seanet"] |= {"lstm": 1, "encoder": {"n_residual_layers": 0, "lstm": 0}}
    return config


@torch.no_grad()
def transform_of(codec: Any) -> Transform:
    """The transform in the weights of a codec that `build` made; its decoder may be trained."""
    silence = torch.zeros(WINDOW, 1, 4 * HOP)  # frame 1 has the window from half a frame on
    impulses = silence.index_put_(
        (torch.arange(WINDOW), torch.tensor(0), HOP // 2 + torch.arange(WINDOW)), torch.tensor(0.1)
    )
    features = torch.cat([codec.encoder(part)[..., 1] for part in torch.split(impulses, 128)])
    return Transform(features.T / 0.1, torch.empty(0))


@torch.no_grad()
def codebooks_of(codec: Any) -> Tensor:
    """[codebooks, vocab_size, dimension]"""
    return torch.stack([layer._codebook.embed for layer in codec.quantizer.vq.layers])


@torch.no_grad()
def with_codebooks(codec: Any, codebooks: Tensor, structure: Structure) -> Any:
    """The codec with other codebooks, of the number of codes that the structure has."""
    other = build_codec(config(structure))
    other.encoder.load_state_dict(codec.encoder.state_dict())
    other.decoder.load_state_dict(codec.decoder.state_dict())
    set_codebooks(other, codebooks)
    return other


@torch.no_grad()
def build(transform: Transform, codebooks: Tensor) -> Any:
    """audiocraft's EncodecModel with the transform and the codebooks in its weights."""
    codec = build_codec(config())
    _fill_encoder(codec.encoder, transform)
    _fill_decoder(codec.decoder, transform)
    set_codebooks(codec, codebooks)
    return codec


def _fill_encoder(seanet: Any, transform: Transform) -> None:
    """Each stride moves neighbours in time into channels; the last one sees a whole window."""
    first, *strides, last = [layer.conv.conv for layer in seanet.model if hasattr(layer, "conv")]
    _fill(first, {(0, 0, 3): ENCODER_SCALE})
    channels = 1
    for conv in strides[:-1]:
        _fill(conv, dict.fromkeys(_taps(conv, channels), 1.0))
        channels *= conv.stride[0]
    weight = torch.zeros_like(strides[-1].weight)
    weight[: seanet.dimension, :channels] = _kernel(transform.analysis, channels)
    _set(strides[-1], weight)
    _fill(last, {(k, k, 3): 1 / ENCODER_SCALE for k in range(seanet.dimension)})


def _fill_decoder(seanet: Any, transform: Transform) -> None:
    """The first stride turns features into windows; the others put neighbours back in a row.

    It takes each feature and its negative, so that the ELU's bend cancels out.
    """
    dimension = seanet.dimension
    first, last = seanet.model[0].conv.conv, seanet.model[-1].conv.conv
    signs = {(k, k, 3): 1.0 for k in range(dimension)}
    _fill(first, signs | {(dimension + k, k, 3): -1.0 for k in range(dimension)})
    lstm = seanet.model[1].lstm
    for parameter in lstm.parameters():  # the cell's quarter: the LSTM adds nothing yet
        parameter[2 * lstm.hidden_size : 3 * lstm.hidden_size] = 0
    strides = [layer.convtr.convtr for layer in seanet.model if hasattr(layer, "convtr")]
    channels = math.prod(conv.stride[0] for conv in strides[1:])
    weight = _unused(strides[0])
    weight[:dimension, :channels] = _kernel(transform.synthesis, channels) * FEATURE_SCALE / 2
    weight[dimension:, :channels] = -weight[:dimension, :channels]
    _set(strides[0], weight)
    for conv in strides[1:]:
        weight = _unused(conv)
        weight[:channels, : channels // conv.stride[0]] = 0
        channels //= conv.stride[0]
        for entry in _taps(conv, channels):
            weight[entry] = 1.0
        _set(conv, weight)
    blocks: list[Any] = [layer for layer in seanet.model if isinstance(layer, SEANetResnetBlock)]
    for block in blocks:
        out = block.block[-1].conv.conv  # starts close to its shortcut alone
        out.weight_g *= 0.01
        out.bias.zero_()
    _fill(last, {(0, 0, 3): 1 / FEATURE_SCALE})


def _taps(conv: Any, channels: int) -> list[tuple[int, int, int]]:
    """(channel at the lower rate, one of `channels` at the higher rate, tap) that are the same."""
    ratio = conv.stride[0]
    before = (conv.kernel_size[0] - ratio + 1) // 2  # taps that reach into the previous stride
    return [(t * channels + c, c, before + t) for t in range(ratio) for c in range(channels)]


def _kernel(rows: Tensor, channels: int) -> Tensor:
    """[dimension, window] -> [dimension, channels, taps]"""
    return rows.view(len(rows), -1, channels).transpose(1, 2)


def _fill(conv: Any, entries: dict[tuple[int, int, int], float]) -> None:
    weight = torch.zeros_like(conv.weight)
    for entry, value in entries.items():
        weight[entry] = value
    _set(conv, weight)


def _unused(conv: Any) -> Tensor:
    """Random weights for channels without use yet: too small to hear, but able to learn."""
    return torch.randn_like(conv.weight) * 0.01 / math.sqrt(conv.weight[:, 0].numel())


def _set(conv: Any, weight: Tensor) -> None:
    """Sets the weights of a weight-normalised layer; a row of zeros has a norm of 0."""
    norm = weight.flatten(1).norm(dim=1).view(-1, 1, 1)
    conv.weight_g.copy_(norm)
    conv.weight_v.copy_(torch.where(norm > 0, weight, torch.ones_like(weight)))
    conv.bias.zero_()
