"""Checks and measures decoding on a GPU: `python -m bench.gpu`.

It needs torch and numpy, and makes its weights itself: random ones, in the shapes of Facebook's
models. First come checks, then the table; it takes less than eight minutes. Where audiocraft can be
imported, its own step in the same shape stands beside.

The floor is the time in which the GPU reads all that a step must read: the matrices once, and the
keys and values of each song, here at position 750. The time of a step does not depend on the values
of the weights, nor, in the graphs, on the position. Prints tables, then one line of JSON.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import pairwise
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from bench.report import Record, Table, hardware
from musicgen_engine.core.memory import slots_that_fit
from musicgen_engine.model.backend_loader import Loaded, choose_backend
from musicgen_engine.model.conditioning import Conditioning
from musicgen_engine.model.decoder import DecodeInput, Decoder, HostDecoder
from musicgen_engine.model.delay_pattern import DelayPattern, Integers
from musicgen_engine.model.graph import Capture, GraphDecoder
from musicgen_engine.model.guidance import SLOT_ROWS
from musicgen_engine.model.sampler import Sampler
from musicgen_engine.model.streaming_codec import CodecInput, StreamingCodec
from musicgen_engine.model.transformer import (
    AttentionWeights,
    LayerWeights,
    TransformerConfig,
    Weights,
)
from protocol.constants import FRAME_RATE
from protocol.request import GenerationRequest

SIZES = {"tiny": (2, 64, 4), "small": (24, 1024, 16), "medium": (48, 1536, 24)}
SIZES["large"] = (48, 2048, 32)
CODEBOOKS, VOCAB_SIZE, DELAYS = 4, 2_048, (0, 1, 2, 3)
TOKENS = 12  # of a text
MAX_TOKENS = 2_048  # of a text that a slot has room for
SHARE = 0.9  # of the GPU's memory
FIRST_CHUNK, LOOKAHEAD = FRAME_RATE // 2, 4  # frames


@dataclass(frozen=True)
class Case:
    """A measurement and its device. `capture` replaces the device's own."""

    device: torch.device
    precision: torch.dtype
    songs: Sequence[int] = (1, 4, 8, 16, 32)
    bursts: int = 40  # that are timed
    window: int = 1_500  # frames; songs are timed in its middle
    capture: Capture | None = None

    def wait(self) -> None:
        """Until the device has done all that was started."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, run: Callable[[], object]) -> float:
        self.wait()
        start = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - start


class Model:
    """Random weights in a shape, on the device, with as many slots as are needed and fit."""

    def __init__(self, name: str, case: Case) -> None:
        layers, dim, heads = SIZES[name]
        self.name, self.case = name, case
        self.pattern = DelayPattern(DELAYS, VOCAB_SIZE, case.window)
        self.config = TransformerConfig(
            layers, dim, heads, 4 * dim, CODEBOOKS, VOCAB_SIZE, rotary=False
        )
        positions = self.pattern.positions
        self.slots = min(
            max(case.songs),
            slots_that_fit(
                SHARE,
                case.device,
                weights=self.config.weight_bytes(case.precision),
                slot=self.config.slot_bytes(positions, MAX_TOKENS, case.precision),
            ),
        )
        self.loaded = self._load()
        self.window = self.pattern.window_of(0, case.window, stride=case.window)
        self.codes = np.random.default_rng(0).integers(
            VOCAB_SIZE, size=(CODEBOOKS, case.window), dtype=np.int32
        )
        text = torch.randn(TOKENS, dim, device=case.device)
        self._conditioning = Conditioning((text, None))

    def _load(self) -> Loaded:
        weights = random_weights(self.config, self.case.device, self.case.precision)
        choice = choose_backend("graph", self.case.precision, weights, self.case.device)
        return choice.load(self.slots, self.pattern.positions, self.case.device, self.case.capture)

    @property
    def eager(self) -> Decoder:
        """One step after another, in the same slots."""
        sampler = Sampler(self.slots, CODEBOOKS, VOCAB_SIZE, self.case.device)
        return HostDecoder(self.loaded.backend, sampler)

    def begin(self, decoder: Decoder, slots: Sequence[int]) -> None:
        for slot in slots:
            request = GenerationRequest("", self.case.window, seed=slot)
            decoder.set_conditioning([slot], self._conditioning)
            decoder.set_request([slot], request, self._conditioning.guidance)

    def decode(
        self, decoder: Decoder, slots: Sequence[int], start: int, bursts: int
    ) -> list[Integers]:
        """The codes [positions, songs, codebooks] of each burst, started ahead as the engine
        does."""
        started, made = deque[Callable[[], Integers]](), []
        for burst in range(bursts):
            position = start + burst * decoder.burst
            inputs = [DecodeInput([slot], self.window, position, self.codes) for slot in slots]
            started.append(decoder.decode(inputs, decoder.burst, None))
            if len(started) > decoder.ahead:
                made.append(started.popleft()().copy())
        return made + [codes().copy() for codes in started]

    def step_seconds(self, decoder: Decoder, songs: int) -> float:
        slots, bursts = range(songs), self.case.bursts
        self.begin(decoder, slots)
        middle = self.case.window // 2
        self.decode(decoder, slots, middle, 2)
        start = middle + 2 * decoder.burst
        run = partial(self.decode, decoder, slots, start, bursts)
        return self.case.seconds(run) / (bursts * decoder.burst)

    def bytes_read(self, songs: int) -> int:
        """By a step: its matrices without the embeddings and the text's, and the cache."""
        config = self.config
        matrices = config.layers * 14 * config.dim**2 + CODEBOOKS * VOCAB_SIZE * config.dim
        cached = config.layers * 2 * SLOT_ROWS * config.dim * (self.case.window // 2)
        return (matrices + songs * cached) * self.case.precision.itemsize


def checks(model: Model) -> Iterator[tuple[str, str]]:
    """Each check with its fault; an empty text if it has none."""
    yield "graph equals eager at load", model.loaded.fault or ""
    decoder, case = model.loaded.decoder, model.case
    if isinstance(decoder, GraphDecoder):
        mates = range(min(8, model.slots))
        model.begin(decoder, mates)
        alone = model.decode(decoder, [0], 0, 8)
        model.begin(decoder, mates)
        together = model.decode(decoder, mates, 0, 8)
        differ = sum(int((a[:, 0] != b[:, 0]).sum()) for a, b in zip(alone, together, strict=True))
        yield "a song is the same with mates in its bucket", f"{differ} codes differ" * bool(differ)
        yield (
            "the loop waits for nothing",
            _waits(partial(model.decode, decoder, mates, 64, 4), case),
        )


def _waits(run: Callable[[], object], case: Case) -> str:
    """CUDA's complaint about an operation that waits for the device."""
    if case.device.type != "cuda":
        return "" if run() else "no codes"
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return ""


def speed(
    model: Model, codec: StreamingCodec, bandwidth: float, theirs: float | str
) -> list[Record]:
    """Steps a second for each number of songs."""
    case, decoder = model.case, model.loaded.decoder
    table = Table(f"{model.name}: steps a second; 50 are real time")
    for songs in case.songs:
        if songs > model.slots:
            continue
        step = model.step_seconds(decoder, songs)
        floor = model.bytes_read(songs) / bandwidth
        audio = codec_seconds(codec, case, songs, decoder.burst)
        music = FRAME_RATE * step + audio
        row: Record = {"songs": songs, "steps": round(1 / step, 1)}
        row["share of the floor"] = round(floor / step, 2)
        row["songs in real time"] = round(songs / music, 1)
        row["codec's share"] = round(audio / music, 3)
        row["eager"] = round(1 / model.step_seconds(model.eager, songs), 1) if songs == 1 else ""
        row["audiocraft"] = theirs if songs == 1 else ""
        row["first sound (s)"] = round(first_sound(model, codec, songs), 3)
        row["peak GB"] = round(_peak(case), 1)
        table.add(row)
    return table.rows


def first_sound(model: Model, codec: StreamingCodec, songs: int) -> float:
    """From admission to the first half second of music, with this many songs; without the text's
    encoder."""
    decoder, slots = model.loaded.decoder, range(songs)
    positions = FIRST_CHUNK + LOOKAHEAD + max(DELAYS)

    def run() -> None:
        model.begin(decoder, slots)
        model.decode(decoder, slots, 0, math.ceil(positions / decoder.burst))
        codec.stream().push(model.codes[:, : FIRST_CHUNK + LOOKAHEAD], last=False)

    return median(model.case.seconds(run) for _ in range(3))


def codec_seconds(codec: StreamingCodec, case: Case, songs: int, burst: int) -> float:
    """For a second of all songs: a chunk of each, in the batches in which chunks of songs that
    began at different times are ready after a burst of positions."""
    batch = max(1, round(songs * burst / FRAME_RATE))
    codes = np.random.default_rng(0).integers(VOCAB_SIZE, size=(CODEBOOKS, FRAME_RATE))
    chunk = codes.astype(np.int32)
    inputs = [CodecInput(codec.stream(), chunk, last=False) for _ in range(batch)]
    push = partial(codec.push, inputs)
    push()
    return songs / batch * median(case.seconds(push) for _ in range(5))


def read_bandwidth(case: Case, gigabytes: float) -> float:
    """Bytes a second, the best of several readings."""
    data = torch.ones(int(gigabytes * 2**28), device=case.device)
    return data.numel() * 4 / min(case.seconds(data.sum) for _ in range(10))


def audiocraft_steps(name: str, case: Case) -> float | str:
    """audiocraft's own steps a second for one song in a shape, or why there are none."""
    if not importlib.util.find_spec("audiocraft"):
        return "not installed"
    try:
        return round(1 / _audiocraft_seconds(name, case), 1)
    except Exception as error:  # of its version, perhaps; our own measurements go on
        return f"fails: {type(error).__name__}"


def _audiocraft_seconds(name: str, case: Case) -> float:
    from bench.baselines import Audiocraft
    from training.random_checkpoint import MINIMAL

    layers, dim, heads = SIZES[name]
    structure = replace(MINIMAL, layers=layers, dim=dim, heads=heads)  # a step has no text encoder
    baseline = Audiocraft.random(structure, "a calm piano melody", case.device)
    times: list[float] = []

    def after_step() -> None:
        case.wait()
        times.append(time.perf_counter())

    baseline.generate(1, case.window // 2, 60, after_step)
    return median(after - before for before, after in pairwise(times[10:]))


def random_weights(
    config: TransformerConfig, device: torch.device, precision: torch.dtype
) -> Weights:
    dim = config.dim

    def matrix(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, device=device, dtype=precision) / math.sqrt(columns)

    def norm() -> tuple[Tensor, Tensor]:
        return torch.ones(dim, device=device), torch.zeros(dim, device=device)

    def attention() -> AttentionWeights:
        return AttentionWeights(norm(), matrix(3 * dim, dim), matrix(dim, dim))

    def layers() -> Iterator[LayerWeights]:
        for _ in range(config.layers):
            ffn = matrix(config.ffn_dim, dim), matrix(dim, config.ffn_dim)
            yield LayerWeights(attention(), attention(), norm(), *ffn)

    embeddings = torch.randn(
        config.codebooks, config.vocab_size + 1, dim, device=device, dtype=precision
    )
    heads = matrix(config.codebooks * config.vocab_size, dim)
    return Weights(config, embeddings, layers(), norm(), heads)


def random_codec(device: torch.device, filters: int) -> StreamingCodec:
    """EnCodec's decoder at 32 kHz; Facebook's has 64 filters."""
    features, width, ratios = 128, 16 * filters, (8, 5, 4, 4)
    layers: list[nn.Module] = []
    for ratio in ratios:
        upsample = nn.ConvTranspose1d(
            width, width // 2, 2 * ratio, ratio, math.ceil(ratio / 2), ratio % 2
        )
        width //= 2
        layers += [nn.ELU(), upsample, _Residual(width)]
    after = nn.Sequential(*layers, nn.ELU(), nn.Conv1d(width, 1, 7, padding=3))
    tables = torch.randn(CODEBOOKS, VOCAB_SIZE, features, device=device)

    def dequantize(codes: Tensor) -> Tensor:
        pairs = zip(tables, codes.to(device).unbind(1), strict=False)
        parts = (nn.functional.embedding(code, table) for table, code in pairs)
        return reduce(torch.add, parts).transpose(1, 2)

    before = nn.Conv1d(features, 16 * filters, 7, padding=3)
    lstm = nn.LSTM(16 * filters, 16 * filters, num_layers=2)
    codec = StreamingCodec(dequantize, before, lstm, after, channels=1)
    codec.to(device)
    return codec


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self._block = nn.Sequential(
            nn.ELU(), nn.Conv1d(width, half, 3, padding=1), nn.ELU(), nn.Conv1d(half, width, 1)
        )

    def forward(self, frames: Tensor) -> Tensor:
        added: Tensor = self._block(frames)
        return frames + added


def _peak(case: Case) -> float:
    if case.device.type != "cuda":
        return 0.0
    return torch.cuda.max_memory_allocated(case.device) / 1e9


def _release(case: Case) -> None:
    """The memory of models that are gone."""
    gc.collect()
    if case.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(case.device)


def measure(names: Sequence[str], case: Case, filters: int = 64, gigabytes: float = 1.0) -> Record:
    """All checks, then all tables."""
    bandwidth = read_bandwidth(case, gigabytes)
    codec = random_codec(case.device, filters)
    table = Table("Checks")
    result: Record = {"GB/s": round(bandwidth / 1e9), "checks": table.rows}
    rows: dict[str, list[Record]] = {}
    for name in names:
        for check, fault in checks(Model(name, case)):
            verdict = "wrong" if fault else "right"
            table.add({"model": name, "result": verdict, "check": check, "fault": fault})
        _release(case)
    for name in names:
        theirs = audiocraft_steps(name, case)
        _release(case)
        rows[name] = speed(Model(name, case), codec, bandwidth, theirs)
        _release(case)
    return result | {"steps": rows}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", choices=SIZES, default=["small", "medium", "large"])
    parser.add_argument("--precision", choices=("float16", "bfloat16"), default="float16")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("bench.gpu needs a GPU that this torch supports")
    case = Case(torch.device("cuda"), getattr(torch, arguments.precision))
    machine = f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {hardware()}"
    print(machine)
    print(json.dumps({"machine": machine, **measure(arguments.models, case)}))


if __name__ == "__main__":
    main()
