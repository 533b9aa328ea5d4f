"""EnCodec's decoder as a stream: codes in, samples out, in chunks of any size.

The decoder is a convolution over frames, an LSTM, and convolutions that make 640 samples of each
frame. A frame of a convolution's output depends on a few frames of its input before and after it,
its `reach`: chunks overlap by these. The LSTM carries its state from chunk to chunk. Wherever a
song is cut, its samples are those of one decode of the whole, except for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from protocol.constants import SAMPLES_PER_FRAME, Codes, Samples

FARTHEST = 4  # frames; EnCodec at 32 kHz reaches 3 before the LSTM and 1 behind it


class StreamingCodec:
    """The part that all streams share. Full scale is 1; everything is computed in float32.

    It is made from modules on the CPU, and may be moved to a device afterwards.

    Args:
        dequantize: int64 codes [channels, codebooks of a channel, n] → [channels, features, n].
        before: [channels, features, n] → [channels, lstm.input_size, n].
        lstm: its output is added to its input, as in audiocraft's StreamableLSTM.
        after: [channels, lstm.hidden_size, n] → [channels, 1, n * 640].
        channels: of the audio. They are decoded side by side; their codebooks alternate
            (left, right, left ...).

    Raises:
        ValueError: the decoder cannot be streamed; it names the part that is not supported.
    """

    def __init__(
        self,
        dequantize: Callable[[Tensor], Tensor],
        before: nn.Module,
        lstm: nn.LSTM,
        after: nn.Module,
        channels: int,
    ) -> None:
        if lstm.bidirectional:
            raise ValueError("an LSTM that runs in both directions is not supported")
        self.dequantize = dequantize
        self.lstm: nn.Module = lstm
        self.channels = channels
        self.device = torch.device("cpu")
        self.cuda_stream: torch.cuda.Stream | None = None
        features = dequantize(torch.zeros(1, 1, 1, dtype=torch.int64)).shape[1]
        self.before = Convolutions(before, features, 1)
        self.after = Convolutions(after, lstm.hidden_size, SAMPLES_PER_FRAME)
        # Later frames that the samples of a frame depend on.
        self.lookahead = self.before.reach + self.after.reach

    def to(self, device: torch.device) -> None:
        """Move it, without what `dequantize` needs. On a GPU it then has a stream of its own: its
        samples wait for no step that was started before."""
        self.device = device
        if device.type == "cuda":
            self.cuda_stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        for module in (self.before.module, self.lstm, self.after.module):
            module.to(device)

    def stream(self, first: int = 0) -> CodecStream:
        """A stream that gives the samples from frame `first` on."""
        return CodecStream(self, first)


class CodecStream:
    """The state of one song in the codec."""

    def __init__(self, codec: StreamingCodec, first: int) -> None:
        self._codec = codec
        self._before = _Overlap(codec.before, 0)
        self._after = _Overlap(codec.after, first)
        self._state: tuple[Tensor, Tensor] | None = None  # h, c: [layers, channels, hidden]

    @torch.inference_mode()
    def push(self, codes: Codes, last: bool) -> Samples:
        """The next samples that are certain: [channels, m].

        The samples of a frame come `lookahead` frames later; the `last` push gives all the rest. Up
        to frame `first` nothing but the LSTM's state is computed.

        Args:
            codes: [codebooks, n], the next frames; n may be 0.
        """
        codec, channels = self._codec, self._codec.channels
        sides = np.stack([codes[side::channels] for side in range(channels)])
        with torch.cuda.stream(codec.cuda_stream):
            latent = codec.dequantize(torch.from_numpy(sides).to(codec.device, torch.int64))
            frames = self._recur(self._before.push(latent, last))
            samples: Samples = self._after.push(frames, last)[:, 0].cpu().numpy()
        return samples

    def _recur(self, frames: Tensor) -> Tensor:
        """[channels, features, n] → the same shape."""
        if not frames.shape[-1]:
            return frames
        steps = frames.permute(2, 0, 1)
        output: Tensor
        output, self._state = self._codec.lstm(steps, self._state)
        return (output + steps).permute(1, 2, 0)


class Convolutions:
    """A module that turns [batch, features, n] into [batch, width, n * hop], and its `reach`.

    Raises:
        ValueError: another hop, or farther reach than FARTHEST.
    """

    def __init__(self, module: nn.Module, features: int, hop: int) -> None:
        self.module = module
        self.features = features
        self.hop = hop
        frames = 2 * FARTHEST + 1
        # Item i has a NaN at frame i, which turns every output that depends on this frame into NaN,
        # at the padded edges too.
        probe = torch.zeros(frames, features, frames)
        probe.diagonal(dim1=0, dim2=2).fill_(math.nan)
        with torch.inference_mode():
            output: Tensor = module(probe)
        self.width = output.shape[1]
        if output.shape[-1] != frames * hop:
            made = f"{output.shape[-1] / frames:g} samples of a frame, not {hop}"
            raise ValueError(f"a decoder that makes {made}, is not supported")
        reached = output.isnan().any(dim=1).view(frames, frames, hop).any(dim=-1)
        item, frame = reached.nonzero(as_tuple=True)
        self.reach = int((item - frame).abs().max())
        if self.reach > FARTHEST:
            raise ValueError(f"a reach of more than {FARTHEST} frames is not supported")


class _Overlap:
    """The state of one song in convolutions: the input that later output depends on."""

    def __init__(self, stage: Convolutions, first: int) -> None:
        self._stage = stage
        self._next = first  # frame of the output
        self._kept: Tensor | None = None  # [batch, features, n]
        self._start = 0  # frame of the first kept

    def push(self, frames: Tensor, last: bool) -> Tensor:
        """[batch, features, n] → [batch, width, m * hop]."""
        module, reach, hop = self._stage.module, self._stage.reach, self._stage.hop
        start = self._start
        if self._kept is not None:
            frames = torch.cat([self._kept, frames], dim=-1)
        end = start + frames.shape[-1]
        # The module pads its input at both ends. That is right only at the ends of the song; at
        # others the output within reach of the end is dropped, and comes with the next push.
        ready = max(self._next, end if last else end - reach)
        if ready > self._next:
            output: Tensor = module(frames)
            output = output[..., (self._next - start) * hop : (ready - start) * hop]
        else:
            output = frames.new_empty(len(frames), self._stage.width, 0)
        self._next = ready
        self._start = min(max(start, ready - reach), end)
        self._kept = frames[..., self._start - start :]
        return output
