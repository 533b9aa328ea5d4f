"""The codec compared with one decode of a whole song by the unmodified model.

The codec is plain or in native code. The model is tiny, with random weights. Errors are relative to
the loudness of the song (its standard deviation).
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field
from itertools import repeat, zip_longest
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from musicgen_engine.core.audiocraft_imports import make_torchaudio_importable
from musicgen_engine.core.codec import streaming_codec
from musicgen_engine.model.native_codec import native_codec
from musicgen_engine.model.streaming_codec import CodecInput, CodecStream, StreamingCodec
from protocol.constants import SAMPLES_PER_FRAME, Codes, Samples
from tests.conftest import needs_native
from training.random_checkpoint import MINIMAL
from training.structure import codec_config

make_torchaudio_importable()

from audiocraft.models import builders  # noqa: E402
from audiocraft.models.encodec import (  # noqa: E402
    HFEncodecCompressionModel,
    InterleaveStereoCompressionModel,
)
from omegaconf import OmegaConf  # noqa: E402
from transformers import EncodecConfig, EncodecModel  # noqa: E402

FRAMES = 40
VOCAB_SIZE = 64
TOLERANCE, NATIVE_TOLERANCE = 1e-5, 1e-4

Model = Any  # one of audiocraft's compression models


def audiocrafts(**changes: Any) -> Model:
    """audiocraft's own EnCodec; `changes` in its configuration, by section."""
    config = codec_config(MINIMAL)
    for section, values in changes.items():
        config[section] |= values
    torch.manual_seed(1)
    model: Any = builders.get_compression_model(OmegaConf.create(config)).eval()
    return audible(model, [layer._codebook.embed for layer in model.quantizer.vq.layers])


def transformers(**changes: Any) -> Model:
    """transformers' EnCodec, as in stereo checkpoints; `changes` in its configuration."""
    config: dict[str, Any] = {
        "sampling_rate": 32_000,
        "upsampling_ratios": [8, 5, 4, 4],
        "num_filters": 4,
        "hidden_size": 32,
        "codebook_size": VOCAB_SIZE,
        "target_bandwidths": [1.2],  # kbit/s: 4 codebooks of 6 bits, 50 frames a second
        "use_causal_conv": False,
        "use_conv_shortcut": False,
    }
    torch.manual_seed(1)
    model: Any = EncodecModel(EncodecConfig(**{**config, **changes})).eval()
    return audible(
        HFEncodecCompressionModel(model),
        [layer.codebook.embed for layer in model.quantizer.layers],
    )


def audible(model: Model, codebooks: list[Tensor]) -> Model:
    """Let the output depend on the codes, not on biases."""
    with torch.no_grad():
        for codebook in codebooks:
            codebook.normal_()
        for name, parameter in model.named_parameters():
            if "decoder" in name and "conv" in name and name.endswith("bias"):
                parameter.zero_()
    return model


MODELS: dict[str, Callable[[], Model]] = {
    "mono": audiocrafts,
    "mono-reflect": lambda: audiocrafts(seanet={"pad_mode": "reflect"}),
    "stereo": lambda: InterleaveStereoCompressionModel(audiocrafts()),
    "transformers": transformers,
    "transformers-stereo": lambda: InterleaveStereoCompressionModel(
        transformers(pad_mode="constant")
    ),
}


@dataclass
class Case:
    """A model in two copies, one of them for the codec, and the codes of a song."""

    build: Callable[[], Model]
    native: bool = False
    model: Model = field(init=False)
    codec: StreamingCodec = field(init=False)
    codes: Codes = field(init=False)
    samples: Samples = field(init=False)

    def __post_init__(self) -> None:
        self.model = self.build()
        self.codec = streaming_codec(self.build())
        if self.native:
            self.codec = native_codec(self.codec)
        self.codes = self.random_codes(FRAMES)
        self.samples = self.at_once(self.codes)

    def random_codes(self, frames: int, seed: int = 0) -> Codes:
        shape = (self.model.num_codebooks, frames)
        return np.random.default_rng(seed).integers(VOCAB_SIZE, size=shape, dtype=np.int32)

    @torch.no_grad()
    def at_once(self, codes: Codes) -> Samples:
        samples: Samples = self.model.decode(torch.from_numpy(codes)[None].long())[0].numpy()
        return samples


@pytest.fixture(scope="module", params=MODELS)
def plain(request: pytest.FixtureRequest) -> Case:
    return Case(MODELS[request.param])


@pytest.fixture(
    scope="module",
    params=[
        *[pytest.param((name, False), id=name) for name in MODELS],
        *[pytest.param((name, True), id=f"{name}-native", marks=needs_native) for name in MODELS],
    ],
)
def case(request: pytest.FixtureRequest) -> Case:
    name, native = request.param
    return Case(MODELS[name], native)


@pytest.fixture(scope="module")
def mono() -> Case:
    return Case(audiocrafts)


def pushed(stream: CodecStream, codes: Codes, sizes: Iterable[int]) -> list[Samples]:
    """The output of each push, of chunks of these sizes; the rest is pushed with the last."""
    outputs, start, frames = [], 0, codes.shape[1]
    for size in sizes:
        outputs.append(stream.push(codes[:, start : start + size], last=start + size >= frames))
        start += size
        if start >= frames:
            break
    return outputs


def streamed(stream: CodecStream, codes: Codes, sizes: Iterable[int]) -> Samples:
    return np.concatenate(pushed(stream, codes, sizes), axis=1)


def assert_close(case: Case, samples: Samples, expected: Samples) -> None:
    tolerance = NATIVE_TOLERANCE if case.native else TOLERANCE
    assert samples.dtype == np.float32
    assert samples.shape == expected.shape
    assert np.abs(samples - expected).max(initial=0) < tolerance * case.samples.std()


@pytest.mark.parametrize(
    "sizes",
    [(FRAMES,), (1,) * FRAMES, (7,) * 6, (1, 38, 1), (0, 0, 2, 0, 30, 1, 0, 5, 2)],
    ids=["whole", "ones", "sevens", "edges", "uneven"],
)
def test_chunks_of_any_size_are_one_decode_of_the_whole(case: Case, sizes: Iterable[int]) -> None:
    samples = streamed(case.codec.stream(), case.codes, sizes)
    assert_close(case, samples, case.samples)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6, 8])
def test_a_very_short_song_is_one_decode_of_the_whole(case: Case, frames: int) -> None:
    codes = case.random_codes(frames)
    expected = case.at_once(codes)
    assert_close(case, streamed(case.codec.stream(), codes, repeat(1)), expected)
    assert_close(case, streamed(case.codec.stream(), codes, [frames]), expected)


def test_the_last_push_may_bring_no_frames(case: Case) -> None:
    stream = case.codec.stream()
    begun = stream.push(case.codes, last=False)
    rest = stream.push(case.codes[:, FRAMES:], last=True)
    assert_close(case, np.concatenate([begun, rest], axis=1), case.samples)


def test_every_frame_changes_the_samples_visibly(plain: Case) -> None:
    """Otherwise the comparisons of this module prove nothing."""
    for frame in range(FRAMES):
        codes = plain.codes.copy()
        codes[:, frame] = (codes[:, frame] + 1) % VOCAB_SIZE
        changed = np.abs(plain.at_once(codes) - plain.samples)
        for around in range(max(0, frame - plain.codec.lookahead), frame + 1):
            there = changed[:, around * SAMPLES_PER_FRAME : (around + 1) * SAMPLES_PER_FRAME]
            assert (there.max(axis=1) > 10 * TOLERANCE * plain.samples.std()).all(), (frame, around)


@pytest.mark.parametrize("first", [0, 1, 2, 5, 17, FRAMES - 1, FRAMES])
@pytest.mark.parametrize("size", [1, 16])
def test_a_stream_can_start_at_any_frame(case: Case, first: int, size: int) -> None:
    rest = streamed(case.codec.stream(first), case.codes, repeat(size))
    expected = case.samples[:, first * SAMPLES_PER_FRAME :]
    assert_close(case, rest, expected)


def test_streams_do_not_disturb_each_other(case: Case) -> None:
    """To the bit."""
    songs = [case.random_codes(FRAMES, seed) for seed in range(3)]
    alone = [streamed(case.codec.stream(), song, repeat(8)) for song in songs]
    streams = [case.codec.stream() for _ in songs]
    outputs: list[list[Samples]] = [[] for _ in songs]
    for start in range(0, FRAMES, 8):
        for stream, song, output in zip(streams, songs, outputs, strict=True):
            output.append(stream.push(song[:, start : start + 8], last=start + 8 == FRAMES))
    for output, expected in zip(outputs, alone, strict=True):
        assert np.array_equal(np.concatenate(output, axis=1), expected)


@dataclass
class Song:
    """It joins the others after some steps, and comes in chunks of `size` frames."""

    codes: Codes
    size: int
    first: int = 0
    joins: int = 0

    def inputs(self, codec: StreamingCodec) -> Iterator[CodecInput | None]:
        """Its input for the codec in each step."""
        stream, frames = codec.stream(self.first), self.codes.shape[1]
        yield from repeat(None, self.joins)
        for start in range(0, frames, self.size):
            end = start + self.size
            yield CodecInput(stream, self.codes[:, start:end], last=end >= frames)


def test_songs_in_batches_are_as_each_alone(case: Case) -> None:
    """To the bit in native code; torch rounds another number of rows differently."""
    songs = [
        Song(case.random_codes(40, seed=0), 8),
        Song(case.random_codes(40, seed=1), 8),
        Song(case.random_codes(40, seed=2), 8, joins=2),
        Song(case.random_codes(23, seed=3), 8),
        Song(case.random_codes(37, seed=4), 5, first=9),
    ]
    outputs: list[list[Samples]] = [[] for _ in songs]
    together = set()
    for step in zip_longest(*(song.inputs(case.codec) for song in songs)):
        alike: dict[Hashable, dict[int, CodecInput]] = defaultdict(dict)
        for index, one in enumerate(step):
            if one:
                alike[one.shape][index] = one
        for batch in alike.values():
            together.add(tuple(batch))
            made = case.codec.push([*batch.values()])
            for index, samples in zip(batch, made, strict=True):
                outputs[index].append(samples)
    assert {(0, 1, 3), (0, 1, 2), (4,)} <= together
    for song, output in zip(songs, outputs, strict=True):
        alone = streamed(case.codec.stream(song.first), song.codes, repeat(song.size))
        samples = np.concatenate(output, axis=1)
        assert_close(case, samples, alone)
        assert not case.native or np.array_equal(samples, alone)


def test_samples_come_once_their_look_ahead_is_there(case: Case) -> None:
    assert case.codec.lookahead == 4
    counts = [output.shape[1] for output in pushed(case.codec.stream(), case.codes, repeat(1))]
    frame = SAMPLES_PER_FRAME
    assert counts == [0, 0, 0, 0, *repeat(frame, FRAMES - 5), 5 * frame]


class Counter(nn.Module):
    """Counts the frames of a module's input."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.frames = 0

    def forward(self, frames: Tensor) -> Tensor:
        self.frames += frames.shape[-1]
        output: Tensor = self.module(frames)
        return output


class Failing(nn.Module):
    """Fails in every other call."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.fails = False

    def forward(self, frames: Tensor) -> Tensor:
        self.fails = not self.fails
        if self.fails:
            raise torch.OutOfMemoryError("CUDA out of memory")
        output: Tensor = self.module(frames)
        return output


def test_a_push_that_fails_changes_nothing(case: Case) -> None:
    codec = copy(case.codec)
    codec.after = copy(codec.after)
    codec.after.module = Failing(codec.after.module)
    stream, output = codec.stream(), []
    for start in range(0, FRAMES, 8):
        codes, last = case.codes[:, start : start + 8], start + 8 == FRAMES
        with pytest.raises(torch.OutOfMemoryError):
            stream.push(codes, last)
        output.append(stream.push(codes, last))
    expected = streamed(case.codec.stream(), case.codes, repeat(8))
    assert np.array_equal(np.concatenate(output, axis=1), expected)


def test_frames_before_the_first_are_not_upsampled(mono: Case) -> None:
    codec, first = mono.codec, 30
    assert isinstance(codec.lstm, nn.LSTM)
    after = Counter(codec.after.module)
    counted = StreamingCodec(codec.dequantize, codec.before.module, codec.lstm, after, 1)
    after.frames = 0
    stream = counted.stream(first)
    # The frames before `first` come out of the LSTM by now.
    assert not stream.push(mono.codes[:, : first + codec.before.reach], last=False).size
    assert after.frames == 0
    assert stream.push(mono.codes[:, first + codec.before.reach :], last=True).size
    assert after.frames == FRAMES - first + codec.after.reach


def test_weights_are_computed_once(plain: Case) -> None:
    layers = [
        layer
        for module in (plain.codec.before.module, plain.codec.after.module)
        for layer in module.modules()
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d)
    ]
    assert len(layers) == 14
    for layer in layers:
        assert isinstance(layer.weight, nn.Parameter)
        assert {name for name, _ in layer.named_parameters()} == {"weight", "bias"}


UNSUPPORTED: dict[str, tuple[Callable[[], Model], str]] = {
    "alternating frames": (
        lambda: InterleaveStereoCompressionModel(audiocrafts(), per_timestep=True),
        "alternate by frames",
    ),
    "sample rate": (lambda: audiocrafts(encodec={"sample_rate": 24_000}), "24000 Hz"),
    "transformers' sample rate": (
        lambda: transformers(sampling_rate=16_000, target_bandwidths=[0.6]),
        "16000 Hz",
    ),
    "channels": (
        lambda: audiocrafts(encodec={"channels": 2}, seanet={"channels": 2}),
        "mixes channels",
    ),
    "renormalized": (lambda: audiocrafts(encodec={"renormalize": True}), "changes the loudness"),
    "normalized": (lambda: transformers(normalize=True), "changes the loudness"),
    "segments": (lambda: transformers(chunk_length_s=1.0, overlap=0.01), "segments"),
    "causal": (lambda: audiocrafts(encodec={"causal": True}, seanet={"causal": True}), "causal"),
    "causal of transformers": (lambda: transformers(use_causal_conv=True), "causal"),
    "no LSTM": (lambda: audiocrafts(seanet={"lstm": 0}), "has no LSTM"),
    "hop": (
        lambda: audiocrafts(seanet={"ratios": [8, 5, 4, 2]}),
        "320 samples of a frame",
    ),
    "reach": (lambda: audiocrafts(seanet={"kernel_size": 11}), "more than 4 frames"),
    "norm over time": (
        lambda: audiocrafts(seanet={"norm": "time_group_norm"}),
        "more than 4 frames",
    ),
}


@pytest.mark.parametrize(("build", "named"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_a_codec_that_cannot_be_streamed_is_refused(build: Callable[[], Model], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        streaming_codec(build())


def test_an_lstm_in_both_directions_is_refused(mono: Case) -> None:
    codec = mono.codec
    assert isinstance(codec.lstm, nn.LSTM)
    lstm = nn.LSTM(codec.lstm.input_size, codec.lstm.hidden_size, bidirectional=True)
    with pytest.raises(ValueError, match="both directions"):
        StreamingCodec(codec.dequantize, codec.before.module, lstm, codec.after.module, 1)
