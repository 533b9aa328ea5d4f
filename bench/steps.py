"""Steps of decoding, beside those of others and beside a busy program."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from bench.baselines import Audiocraft, Baseline, Transformers
from bench.clock import seconds
from bench.report import Record, Table
from bench.small import SMALL
from musicgen_engine.core.loaded_model import LoadedModel
from musicgen_engine.model.backend import ModelInput
from musicgen_engine.model.backend_loader import choose_sampler
from musicgen_engine.model.guidance import CLASSIFIER_FREE
from protocol.request import GenerationRequest
from training.structure import CODEBOOKS

PROMPT = "a calm piano melody over slow strings, warm and nostalgic"
ROWS = CLASSIFIER_FREE.rows
# A position in 16 is computed before a step is timed, which touches each page of the cache. The
# others stay zero: the time of a step does not depend on what the cache holds, and to compute them
# takes longer than all else.
SPACING = 16
FLOAT = 4  # bytes
# Bytes of a number in a matrix and in the cache. A checkpoint in float16 is read as such.
PRECISIONS = {"int8": (1, 1), "float32": (2, 4)}
BUSY = "import os; os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})\nwhile True: pass"
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


def limits(threads: int) -> Record:
    """How fast this machine reads memory."""
    table = Table("This machine")
    data = torch.ones(2**28)
    reading = data.numel() * FLOAT / min(seconds(data.sum) for _ in range(20))
    table.add({"threads": threads, "GB/s": round(reading / 1e9, 1)})
    return table.rows[0]


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")


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
