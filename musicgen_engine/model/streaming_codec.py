"""EnCodec's decoder as a stream: codes in, samples out, in chunks of any size.

The decoder is a convolution over frames, an LSTM, and convolutions that make 640 samples of each
frame. A frame of a convolution's output depends on a few frames of its input before and after it,
its `reach`: chunks overlap by these. The LSTM carries its state from chunk to chunk. Wherever a
song is cut, its samples are those of one decode of the whole, except for rounding. Chunks of the
same shape, of several songs, can be decoded in one batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

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
        self._layers = lstm.num_layers
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
        rows = self.channels
        with torch.cuda.stream(self.cuda_stream):
            state = torch.zeros(2, self._layers, rows, self.after.features, device=self.device)
            before, after = (
                torch.zeros(rows, stage.features, 0, device=self.device)
                for stage in (self.before, self.after)
            )
        return CodecStream(self, _State(_Overlap(before, 0), state, _Overlap(after, first)))

    @torch.inference_mode()
    def push(self, inputs: Sequence[CodecInput]) -> list[Samples]:
        """The next samples of each song, see CodecStream.push. All inputs have the same shape. If
        it raises, all streams are as they were."""
        sides = [
            one.codes[side :: self.channels] for one in inputs for side in range(self.channels)
        ]
        last = inputs[0].last
        with torch.cuda.stream(self.cuda_stream):
            codes = torch.from_numpy(np.stack(sides)).to(self.device, torch.int64)
            state = _State.joined([one.stream.state for one in inputs])
            frames, before = self.before.push(self.dequantize(codes), state.before, last)
            frames, lstm = self._recur(frames, state.lstm)
            frames, after = self.after.push(frames, state.after, last)
            samples = frames[:, 0].cpu().numpy()
        states = _State(before, lstm, after).split(len(inputs))
        for one, state in zip(inputs, states, strict=True):
            one.stream.state = state
        return np.split(samples, len(inputs))

    def _recur(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """[rows, features, n] → the same shape, and the next state."""
        if not frames.shape[-1]:
            return frames, state
        steps = frames.permute(2, 0, 1)
        output, pair = self.lstm(steps, tuple(state))
        return (output + steps).permute(1, 2, 0), torch.stack(pair)


@dataclass
class CodecStream:
    """One song in the codec."""

    codec: StreamingCodec
    state: _State

    def push(self, codes: Codes, last: bool) -> Samples:
        """The next samples that are certain: [channels, m].

        The samples of a frame come `lookahead` frames later; the `last` push gives all the rest. Up
        to frame `first` nothing but the LSTM's state is computed.

        Args:
            codes: [codebooks, n], the next frames; n may be 0.
        """
        return self.codec.push([CodecInput(self, codes, last)])[0]


@dataclass(frozen=True)
class CodecInput:
    """The arguments of CodecStream.push."""

    stream: CodecStream
    codes: Codes
    last: bool

    @property
    def shape(self) -> Hashable:
        """Inputs of the same shape can be decoded together."""
        state = self.stream.state
        return self.codes.shape, self.last, state.before.shape, state.after.shape


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

    def push(self, frames: Tensor, overlap: _Overlap, last: bool) -> tuple[Tensor, _Overlap]:
        """[rows, features, n] → [rows, width, m * hop], and what the next push needs."""
        frames = torch.cat([overlap.kept, frames], dim=-1)
        start, end = overlap.skip, frames.shape[-1]
        # The module pads its input at both ends. That is right only at the ends of the song; at
        # others the output within reach of the end is dropped, and comes with the next push.
        ready = max(start, end if last else end - self.reach)
        if ready > start:
            output: Tensor = self.module(frames)[..., start * self.hop : ready * self.hop]
        else:
            output = frames.new_empty(len(frames), self.width, 0)
        first = min(max(0, ready - self.reach), end)
        return output, _Overlap(frames[..., first:], ready - first)


@dataclass(frozen=True)
class _Overlap:
    """The input of convolutions that later output depends on: [rows, features, n]. The next output
    is that of the frame after `skip` frames."""

    kept: Tensor
    skip: int

    @property
    def shape(self) -> Hashable:
        return self.kept.shape[-1], self.skip


@dataclass(frozen=True)
class _State:
    """Of one song, or of several with the same shape. A song has a row for each channel."""

    before: _Overlap
    lstm: Tensor  # h and c: [2, layers, rows, hidden]
    after: _Overlap

    @classmethod
    def joined(cls, states: Sequence[_State]) -> _State:
        return cls(
            _Overlap(torch.cat([one.before.kept for one in states]), states[0].before.skip),
            torch.cat([one.lstm for one in states], dim=2),
            _Overlap(torch.cat([one.after.kept for one in states]), states[0].after.skip),
        )

    def split(self, songs: int) -> Iterator[_State]:
        """The state of each song."""
        parts = zip(
            self.before.kept.chunk(songs),
            self.lstm.chunk(songs, dim=2),
            self.after.kept.chunk(songs),
            strict=True,
        )
        for before, lstm, after in parts:
            yield _State(_Overlap(before, self.before.skip), lstm, _Overlap(after, self.after.skip))
