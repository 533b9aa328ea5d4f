"""Measures decoding beside audiocraft and transformers: `python -m bench.decode [--only PART]`.

A step makes the next codes of all songs. It reads each matrix once, for any number of songs (361 M
of the 420 M parameters in musicgen-small's shape; the others are embeddings, and the keys and
values of the text), and the keys and values of all earlier positions of each song, for two guidance
rows. It multiplies the matrices by two rows for each song. So a step is no faster than the memory
can be read: ours stand beside this limit. Music plays in real time at 50 steps per second.

The weights are random, in musicgen-small's exact shape. Some steps of a baseline's own `generate`
are followed by some of ours, so that other load on the machine slows both alike; medians count.
Prints tables, then one line of JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from bench.account import account
from bench.baselines import Audiocraft, Baseline, Transformers
from bench.offline import ARRIVAL_INTERVAL, Timeline, generate, steps_until_ready
from bench.report import Record, Table, hardware
from bench.small import SMALL, write_small
from musicgen_engine.config import ModelConfig
from musicgen_engine.core import checkpoint
from musicgen_engine.core.engine import Engine
from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.core.queue import Queue
from musicgen_engine.core.sequence import Sequence
from musicgen_engine.model.backend import ModelInput
from musicgen_engine.model.backend_loader import choose_sampler
from musicgen_engine.model.guidance import CLASSIFIER_FREE
from musicgen_engine.model.native_codec import native_codec
from musicgen_engine.model.one_thread import one_thread
from musicgen_engine.model.streaming_codec import StreamingCodec
from protocol.constants import FRAME_RATE, SAMPLES_PER_FRAME, Codes
from protocol.prompt import WeightedText
from protocol.request import GenerationRequest
from training.structure import CODEBOOKS, TINY

PROMPT = "a calm piano melody over slow strings, warm and nostalgic"
ROWS = CLASSIFIER_FREE.rows
TINY_FOLDER = Path(__file__).parents[1] / "model_repository" / "musicgen-tiny" / "1"
# A position in 16 is computed before a step is timed, which touches each page of the cache. The
# others stay zero: the time of a step does not depend on what the cache holds, and to compute them
# takes longer than all else.
SPACING = 16
FLOAT = 4  # bytes
# Bytes of a number in a matrix and in the cache. A checkpoint in float16 is read as such.
PRECISIONS = {"int8": (1, 1), "float32": (2, 4)}
BUSY = "import os; os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})\nwhile True: pass"
Clock = Callable[[], float]
# Numbers that a step reads.
MATRICES = SMALL.layers * 14 * SMALL.dim**2 + CODEBOOKS * SMALL.vocab_size * SMALL.dim
POSITION = SMALL.layers * 2 * ROWS * SMALL.dim  # keys and values of one position of a song


class DecodeStep:
    """A step of the backend and the sampler alone, with a song in each of the first slots."""

    def __init__(self, model: LoadedModel, songs: int, positions: int) -> None:
        self._backend = model.backend
        new, _ = choose_sampler(model.backend_name, CODEBOOKS, SMALL.vocab_size)
        self._sampler = new(songs, CODEBOOKS, SMALL.vocab_size, model.device)
        conditioning = model.encode_text(PROMPT)
        for slot in range(songs):
            request = GenerationRequest(PROMPT, frames=positions, seed=slot)
            self._sampler.set_request(slot, request)
            self._backend.set_conditioning(slot, conditioning)
        for start in range(0, positions, SPACING):
            self._backend.forward(_model_input(range(songs), start, 1))

    def __call__(self, position: int, songs: int) -> None:
        self.sample(self.forward(position, songs), position, songs)

    def forward(self, position: int, songs: int) -> Tensor:
        return self._backend.forward(_model_input(range(songs), position, 1))

    def sample(self, logits: Tensor, position: int, songs: int) -> None:
        frames = torch.full((songs, CODEBOOKS), position)
        self._sampler.sample(logits, range(songs), frames).cpu()


class PairedTimer:
    """The callback of a baseline: after each burst of its steps it takes one of each of ours.

    `times` has the seconds of the steps, but for the first one of each burst: what ran before it
    has left its own data in the caches, and its threads still wait for work on the cores.
    """

    BURST = 3
    STEPS = 1 + 3 * BURST  # of the baseline; the first one is not timed

    def __init__(self, baseline: str, steps: Mapping[str, Callable[[], None]]) -> None:
        self._baseline, self._steps = baseline, steps
        self._burst: list[float] = []
        self._start: float | None = None
        self.times: dict[str, list[float]] = {name: [] for name in (baseline, *steps)}

    def __call__(self) -> None:
        if self._start is not None:
            self._burst.append(time.perf_counter() - self._start)
        if len(self._burst) == self.BURST:
            self.times[self._baseline] += self._burst[1:]
            self._burst = []
            for name, step in self._steps.items():
                self.times[name] += [seconds(step) for _ in range(self.BURST)][1:]
        self._start = time.perf_counter()


def steps(
    models: Mapping[str, LoadedModel], folder: Path, machine: Record, quick: bool
) -> list[Record]:
    """Each baseline beside ours, then all in one table."""
    positions, batches = ((100,), (1, 4)) if quick else ((100, 750), (1, 4, 8))
    cases = list(itertools.product(positions, batches))
    ours = {
        name: DecodeStep(model, max(batches), max(positions) + 1) for name, model in models.items()
    }
    times: dict[tuple[int, int], dict[str, list[float]]] = {case: {} for case in cases}
    baselines = _baselines(folder)
    for name, load in baselines.items():
        baseline = load()
        table = Table(f"Steps per second beside {name}")
        for position, songs in cases:
            timer = PairedTimer(
                name, {key: partial(step, position, songs) for key, step in ours.items()}
            )
            baseline.generate(songs, position, timer.STEPS, timer)
            for key, values in timer.times.items():
                times[position, songs].setdefault(key, []).extend(values)
            theirs, *ours_rates = (1 / median(values) for values in timer.times.values())
            row: Record = {"position": position, "songs": songs, name: _three_digits(theirs)}
            for precision, rate in zip(ours, ours_rates, strict=True):
                row[precision] = _three_digits(rate)
                row[f"{precision} ratio"] = _three_digits(rate / theirs)
            table.add(row)
        del baseline  # its memory, before the next one takes as much
    table = Table("Steps per second, and ours as a share of what the memory allows")
    for (position, songs), by_name in times.items():
        row = {"position": position, "songs": songs}
        rates = {name: 1 / median(by_name[name]) for name in (*baselines, *models)}
        row |= {name: _three_digits(rate) for name, rate in rates.items()}
        for precision in models:
            weight, cached = PRECISIONS[precision]
            read = weight * MATRICES + cached * songs * position * POSITION
            limit = machine["GB/s"] * 1e9 / read
            row[f"{precision} share"] = round(rates[precision] / limit, 2)
        table.add(row)
    return table.rows


def _baselines(folder: Path) -> dict[str, Callable[[], Baseline]]:
    baselines: dict[str, Callable[[], Baseline]] = {
        "audiocraft": lambda: Audiocraft.load(folder, PROMPT),
        "transformers": Transformers,
    }
    try:
        from bench.openvino_step import OpenVino
    except ModuleNotFoundError:
        command = f"{sys.executable} -m pip install --no-deps -r requirements/bench.txt"
        print(f"\nOpenVINO is left out: it comes with {command}", flush=True)
    else:
        baselines["OpenVINO int8"] = OpenVino
    return baselines


def engine(model: LoadedModel, quick: bool) -> list[Record]:
    table = Table(
        f"The whole engine, one request every {ARRIVAL_INTERVAL} s: seconds of audio per second, "
        "and seconds to the first audio"
    )
    duration, batches = (1, (1, 2, 4)) if quick else (5, (1, 2, 4, 8, 16))
    codec = codec_seconds(model.codec, _codes(FRAME_RATE))
    for songs in batches:
        frames = duration * FRAME_RATE
        timeline = generate(
            model, [GenerationRequest(PROMPT, frames, seed=n) for n in range(songs)]
        )
        waits = timeline.waits()
        row = {
            "songs": songs,
            "audio": round(songs * duration / timeline.seconds(), 2),
            "first song": round(waits[0], 2),
            "median": round(median(waits), 2),
            "longest": round(max(waits), 2),
            "codec's share": round(songs * duration * codec / timeline.seconds(), 3),
        }
        table.add(row)
    return table.rows


def prefill(model: LoadedModel, quick: bool) -> list[Record]:
    """The cost of a song that is resumed after 28 s of codes, for running songs."""
    table = Table("A step in ms: ordinary, beside a resumed song's text, with its prefill")
    resumed = GenerationRequest(
        PROMPT, frames=1500, seed=0, codes=_codes(1400), start=1400 * SAMPLES_PER_FRAME
    )
    for songs in (1,) if quick else (1, 4, 8):
        queue = Queue(max_queue=songs)
        engine = Engine(model, queue, Timeline())
        for id in range(songs):
            running = Sequence(id, GenerationRequest(PROMPT, frames=500, seed=id))
            queue.submit(running)
            steps_until_ready(engine, running)
        ordinary = median(seconds(engine.step) for _ in range(15))
        new = Sequence(songs, resumed)
        queue.submit(new)
        text = median(steps_until_ready(engine, new))
        prefill = median(seconds(engine.step) for _ in range(15))
        times = {"ordinary": ordinary, "text": text, "prefill": prefill}
        row = {name: round(1000 * time) for name, time in times.items()}
        table.add({"songs": songs} | row | {"ratio": round(prefill / ordinary, 2)})
    return table.rows


def blends(model: LoadedModel, quick: bool) -> list[Record]:
    """The cost of the texts of a prompt, at a position of one song."""
    table = Table("A step of one song in ms, by the texts of its prompt")
    for position in (100,) if quick else (100, 750):
        times: dict[str, float] = {}
        for texts in (1, 2, 3, 4):
            queue = Queue(max_queue=1)
            engine = Engine(model, queue, Timeline())
            blend = tuple(WeightedText(f"{PROMPT} {n}", 1.0) for n in range(texts))
            request = GenerationRequest(PROMPT, 1500, seed=0, codes=_codes(position))
            sequence = Sequence(0, request.changed(0, {"prompt": blend}))
            queue.submit(sequence)
            while sequence.frames_done == position:
                engine.step()
            times[f"{texts}"] = median(seconds(engine.step) for _ in range(15))
        table.add({"position": position} | {n: round(1000 * t, 1) for n, t in times.items()})
    return table.rows


def contention(models: Mapping[str, LoadedModel]) -> list[Record]:
    """The cost of another program on one of the cores for a step of one song."""
    table = Table("A step of one song in ms, alone and beside a busy program on one core")
    for name, model in models.items():
        step = partial(DecodeStep(model, 1, 101), 100, 1)
        alone = median(seconds(step) for _ in range(30))
        with subprocess.Popen([sys.executable, "-c", BUSY]) as program:
            time.sleep(1)
            beside = median(seconds(step) for _ in range(60))
            program.kill()
        times = {"alone": round(1000 * alone, 1), "beside": round(1000 * beside, 1)}
        table.add({"precision": name} | times | {"ratio": round(beside / alone, 2)})
    return table.rows


def codec(folder: Path) -> list[Record]:
    """Plain and native in turn, on one thread."""
    table = Table("Decoding a second of audio: ms of one core, and how far native differs")
    for name, (source, vocab_size) in {
        "musicgen-small": (folder, SMALL.vocab_size),
        "musicgen-tiny": (TINY_FOLDER, TINY.vocab_size),
    }.items():
        with one_thread():
            plain = checkpoint.load(source, torch.device("cpu")).codec
            codecs = {"plain": plain, "native": native_codec(plain)}
            codes = _codes(3 * FRAME_RATE, vocab_size)
            expected, samples = (one.stream().push(codes, last=True) for one in codecs.values())
            times: dict[str, list[float]] = {key: [] for key in codecs}
            for _ in range(5):
                for key, one in codecs.items():
                    second = codec_seconds(one, codes[:, :FRAME_RATE], time.thread_time)
                    times[key].append(1000 * second)
        ms = {key: round(median(several), 1) for key, several in times.items()}
        ratio = median(n / p for p, n in zip(*times.values(), strict=True))
        error = float(np.abs(samples - expected).max())
        table.add({"codec": name} | ms | {"ratio": round(ratio, 2), "error": f"{error:.1g}"})
    return table.rows


def codec_seconds(codec: StreamingCodec, codes: Codes, clock: Clock = time.perf_counter) -> float:
    """The time to decode codes in the middle of a song."""
    stream = codec.stream()
    stream.push(codes, last=False)
    return median(seconds(lambda: stream.push(codes, last=False), clock) for _ in range(3))


def parity(model: LoadedModel, folder: Path, quick: bool) -> Record:
    """The greedy codes of a song with two batch mates, compared with audiocraft's."""
    table = Table("Greedy codes of a song compared with audiocraft's")
    frames = (1 if quick else 10) * FRAME_RATE
    requests = [GenerationRequest(PROMPT, frames, seed=0, temperature=0.0)]
    requests += [GenerationRequest("loud drums", frames // 2, seed=seed) for seed in (1, 2)]
    ours, theirs = (
        generate(model, requests).codes(0),
        Audiocraft.load(folder, PROMPT).greedy(frames),
    )
    different = int((ours != theirs).sum())
    table.add({"codes": theirs.size, "values": len(np.unique(theirs)), "different": different})
    return table.rows[0]


def limits(threads: int) -> Record:
    """How fast this machine reads memory."""
    table = Table("This machine")
    data = torch.ones(2**28)
    reading = data.numel() * FLOAT / min(seconds(data.sum) for _ in range(20))
    table.add({"threads": threads, "GB/s": round(reading / 1e9, 1)})
    return table.rows[0]


def seconds(run: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    start = clock()
    run()
    return clock() - start


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")


def _codes(frames: int, vocab_size: int = SMALL.vocab_size) -> Codes:
    codes = np.random.default_rng(0).integers(vocab_size, size=(CODEBOOKS, frames))
    return codes.astype(np.int32)


def _model_input(slots: range | list[int], start: int, length: int) -> ModelInput:
    """Random tokens for `length` positions of each slot."""
    count = len(slots)
    size = (CODEBOOKS, count * length)
    return ModelInput(
        tokens=np.random.default_rng(start).integers(SMALL.vocab_size, size=size),
        slots=np.array(slots),
        starts=np.full(count, start),
        lengths=np.full(count, length),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, help="of the checkpoint, which is kept there")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parts = ("codec", "steps", "account", "engine", "blends", "prefill", "contention", "parity")
    parser.add_argument("--only", choices=parts)
    parser.add_argument("--plot", type=Path, help="an SVG file to draw the steps per second into")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter measurements")
    arguments = parser.parse_args()
    only, quick = arguments.only, arguments.quick
    torch.set_num_threads(arguments.threads)
    results: Record = {
        "bench": "decode",
        "hardware": f"{hardware()}, torch {torch.__version__}",
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        plot = arguments.plot and arguments.plot.resolve()  # a baseline changes the directory
        write_small(folder)
        results["machine"] = limits(arguments.threads)

        @cache
        def model(precision: str) -> LoadedModel:
            config = ModelConfig(device="cpu", precision=precision, memory=0.4)
            return LoadedModel.load(folder, config)

        if only in (None, "account"):
            results["account"] = account(folder)
        if only in (None, "codec"):
            results["codec"] = codec(folder)
        if only in (None, "steps"):
            models = {name: model(name) for name in PRECISIONS}
            results["steps"] = steps(models, folder, results["machine"], quick)
            if plot:
                from bench.plot import draw

                draw(plot, results["steps"], results["hardware"])
        if only in (None, "engine"):
            results["engine"] = engine(model("int8"), quick)
        if only in (None, "blends"):
            results["blends"] = blends(model("int8"), quick)
        if only in (None, "prefill"):
            results["prefill"] = prefill(model("int8"), quick)
        if only in (None, "contention"):
            results["contention"] = contention({name: model(name) for name in PRECISIONS})
        if only in (None, "parity"):
            results["parity"] = parity(model("float32"), folder, quick)
    print("\n" + json.dumps(results))


if __name__ == "__main__":
    main()
