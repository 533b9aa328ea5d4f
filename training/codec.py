"""musicgen-tiny's codec as training begins: an EnCodec that is written down, not initialised.

Its strided convolutions cut the audio into overlapping windows and its last layers hold a transform
that is known to be good. What goes through its ELUs is small, where they are linear. The codebooks
come from k-means. Encoder and codebooks stay as they are, so the codes are final before the decoder
has learnt anything, and only the decoder is trained.
"""

import math
from typing import Any

import torch
from audiocraft.modules.seanet import SEANetResnetBlock
from torch import Tensor

from training.checkpoint import build_codec, set_codebooks
from training.structure import TINY, Config, codec_config
from training.transform import QUIET, Transform

# Scale of what is inside the encoder, which is not trained: there its ELUs are all but straight.
FAINT = 0.01


def config() -> Config:
    """MusicGen's, with fewer layers: the encoder has no residual layers and no LSTM."""
    config = codec_config(TINY)
    config["seanet"] |= {"lstm": 1, "encoder": {"n_residual_layers": 0, "lstm": 0}}
    return config


@torch.no_grad()
def write(transform: Transform, books: Tensor) -> Any:
    """audiocraft's EncodecModel."""
    codec = build_codec(config())
    _write_encoder(codec.encoder, transform)
    _write_decoder(codec.decoder, transform)
    set_codebooks(codec, books)
    return codec


def _write_encoder(seanet: Any, transform: Transform) -> None:
    """Each stride moves neighbours in time into channels, until the last sees a whole window."""
    first, *strides, last = [layer.conv.conv for layer in seanet.model if hasattr(layer, "conv")]
    _fill(first, {(0, 0, 3): FAINT})
    channels = 1
    for conv in strides[:-1]:
        places = _places(conv, channels)
        _fill(conv, dict.fromkeys(places, 1.0))
        channels *= conv.stride[0]
    weight = torch.zeros_like(strides[-1].weight)
    weight[: seanet.dimension, :channels] = _kernel(transform.analysis, channels)
    _set(strides[-1], weight)
    _fill(last, {(k, k, 3): 1 / FAINT for k in range(seanet.dimension)})


def _write_decoder(seanet: Any, transform: Transform) -> None:
    """The first stride makes windows again, of features and of their negatives, so that what an ELU
    bends cancels out; the others put neighbours in a row."""
    dimension = seanet.dimension
    first, last = seanet.model[0].conv.conv, seanet.model[-1].conv.conv
    signs = {(k, k, 3): 1.0 for k in range(dimension)}
    _fill(first, signs | {(dimension + k, k, 3): -1.0 for k in range(dimension)})
    lstm = seanet.model[1].lstm
    for parameter in lstm.parameters():  # the third quarter is the cell's: it adds nothing yet
        parameter[2 * lstm.hidden_size : 3 * lstm.hidden_size] = 0
    strides = [layer.convtr.convtr for layer in seanet.model if hasattr(layer, "convtr")]
    channels = math.prod(conv.stride[0] for conv in strides[1:])
    weight = _spare(strides[0])
    weight[:dimension, :channels] = _kernel(transform.synthesis, channels) * QUIET / 2
    weight[dimension:, :channels] = -weight[:dimension, :channels]
    _set(strides[0], weight)
    for conv in strides[1:]:
        weight = _spare(conv)
        weight[:channels, : channels // conv.stride[0]] = 0
        channels //= conv.stride[0]
        for late, early, tap in _places(conv, channels):
            weight[late, early, tap] = 1.0
        _set(conv, weight)
    blocks: list[Any] = [layer for layer in seanet.model if isinstance(layer, SEANetResnetBlock)]
    for block in blocks:
        out = block.block[-1].conv.conv  # begins as hardly more than its shortcut
        out.weight_g *= 0.01
        out.bias.zero_()
    _fill(last, {(0, 0, 3): 1 / QUIET})


def _places(conv: Any, channels: int) -> list[tuple[int, int, int]]:
    """Which channel at the lower rate is which of `channels` at the higher one, at which tap."""
    ratio = conv.stride[0]
    before = (conv.kernel_size[0] - ratio + 1) // 2  # taps that reach into the stride before
    return [(t * channels + c, c, before + t) for t in range(ratio) for c in range(channels)]


def _kernel(rows: Tensor, channels: int) -> Tensor:
    """[dimension, window] -> [dimension, channels, taps]"""
    return rows.view(len(rows), -1, channels).transpose(1, 2)


def _fill(conv: Any, entries: dict[tuple[int, int, int], float]) -> None:
    weight = torch.zeros_like(conv.weight)
    for place, value in entries.items():
        weight[place] = value
    _set(conv, weight)


def _spare(conv: Any) -> Tensor:
    """Weights of channels that are not in use yet: hardly heard, but able to learn."""
    return torch.randn_like(conv.weight) * 0.01 / math.sqrt(conv.weight[:, 0].numel())


def _set(conv: Any, weight: Tensor) -> None:
    """In a layer whose weights have norms of their own; a row of zeros has a norm of 0."""
    norm = weight.flatten(1).norm(dim=1).view(-1, 1, 1)
    conv.weight_g.copy_(norm)
    conv.weight_v.copy_(torch.where(norm > 0, weight, torch.ones_like(weight)))
    conv.bias.zero_()
