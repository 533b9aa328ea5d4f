"""Accounts for the time of a step: int8, musicgen-small's shape, one song.

The native code makes passes over tiles of work, which its threads share. A build of its own, with
timed_pool.h, times each pass; the service's has no timers.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

import kernels
from bench.report import Record, Table
from bench.small import SMALL
from kernels.build import build
from training.structure import CODEBOOKS

TIMERS = Path(__file__).with_name("timed_pool.h")
PREPARING, CACHE = "norms, activations to int8", "keys and values into the cache"
PROJECTIONS, ATTENTION = "products for queries, keys, values", "attention"
OUTPUT, FEED_FORWARD, HEADS = "product after attention", "feed-forward products", "heads"
CROSS = "attention to the text, with products"
LAYER = (
    *(PREPARING, PROJECTIONS, CACHE, ATTENTION, PREPARING, OUTPUT),
    *(PREPARING, CROSS, CROSS, PREPARING, CROSS),
    *(PREPARING, FEED_FORWARD, PREPARING, FEED_FORWARD),
)
PASSES = (*LAYER * SMALL.layers, PREPARING, HEADS)  # in the order of kernels/transformer.cpp
BETWEEN, WAITING = "between the passes", "threads that wait for one another"
CALL, SAMPLING = "Python's call, embeddings", "sampling"
# Bytes that a part reads.
READ = {
    name: squares * SMALL.layers * SMALL.dim**2
    for name, squares in ((PROJECTIONS, 3), (OUTPUT, 1), (CROSS, 2), (FEED_FORWARD, 8))
} | {HEADS: CODEBOOKS * SMALL.vocab_size * SMALL.dim}
POSITION, STEPS = 100, 40


class _Pass(ctypes.Structure):
    _fields_ = [(name, ctypes.c_double) for name in ("start", "end", "work")]


def account(folder: Path) -> list[Record]:
    """Of the checkpoint in `folder`. Needs a C++ compiler."""
    compiler = shutil.which("c++")
    if not compiler:
        print("\nThe time of a step is not accounted for: that needs a C++ compiler", flush=True)
        return []
    table = Table(f"Where the time of a step goes: int8, one song, position {POSITION}")
    with tempfile.TemporaryDirectory() as libraries:
        build(Path(libraries), [compiler], "-include", str(TIMERS))
        output = subprocess.run(
            [sys.executable, "-m", "bench.account", folder, str(torch.get_num_threads())],
            env=os.environ | {"KERNELS": libraries},
            cwd=Path(__file__).parents[1],
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
    times: dict[str, list[float]] = json.loads(output.splitlines()[-1])
    whole = sum(map(median, times.values()))
    for part, values in times.items():
        time = median(values)
        speed = round(READ[part] / time / 1e9, 1) if part in READ else ""
        row = {"part": part, "ms": round(1000 * time, 2), "share": round(time / whole, 3)}
        table.add(row | {"GB/s": speed})
    table.add({"part": "whole step", "ms": round(1000 * whole, 2), "share": 1, "GB/s": ""})
    return table.rows


def measure(folder: Path, threads: int) -> dict[str, list[float]]:
    """The seconds of each part in each step, in a process whose native code has timers."""
    from bench.steps import DecodeStep
    from musicgen_engine.config import ModelConfig
    from musicgen_engine.core.loaded_model import LoadedModel

    torch.set_num_threads(threads)
    config = ModelConfig(device="cpu", backend="native", precision="int8", memory=0.1)
    step = DecodeStep(LoadedModel.load(folder, config), 1, POSITION + 1)
    library = ctypes.CDLL(str(kernels.library()))
    count = ctypes.c_int32.in_dll(library, "pass_count")
    passes = (_Pass * len(PASSES)).in_dll(library, "passes")
    times: dict[str, list[float]] = {part: [0.0] * STEPS for part in (*dict.fromkeys(PASSES),)}
    times |= {part: [] for part in (BETWEEN, WAITING, CALL, SAMPLING)}
    for index in range(STEPS):
        count.value = 0
        start = perf_counter()
        logits = step.forward(POSITION, 1)
        end = perf_counter()
        step.sample(logits, POSITION, 1)
        times[SAMPLING].append(perf_counter() - end)
        if count.value != len(PASSES):
            sys.exit(
                f"The native code makes {count.value} passes and {__file__} names {len(PASSES)}: "
                "bring PASSES up to date with kernels/transformer.cpp."
            )
        native = passes[-1].end - passes[0].start
        inside = sum(one.end - one.start for one in passes)
        times[CALL].append(end - start - native)
        times[BETWEEN].append(native - inside)
        times[WAITING].append(inside - sum(one.work for one in passes) / threads)
        for part, one in zip(PASSES, passes, strict=True):
            times[part][index] += one.work / threads
    return times


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
