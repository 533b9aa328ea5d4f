"""How fast songs are decoded, beside audiocraft and transformers: `python -m bench.decode`.

A step gives every song its next column of codes. It reads each matrix once, however many the songs
(361 M of the 420 M parameters in musicgen-small's shape: the rest are embeddings, and what is
computed once for a text), and each song's keys and values of all columns before, for two rows: with
the text and without. It multiplies the matrices by two rows a song. So a step cannot be faster than
the memory is read, nor than the processor multiplies: both limits stand beside the steps a second.
In float32 one song is bound by the matrices' bytes, many young ones by arithmetic, many old ones by
their keys and values. Music plays in real time at 50 steps a second.

The weights are random, in musicgen-small's exact shape. Each step of another implementation's own
`generate` is followed by one of ours, so that both see the same moments of a machine that is never
quite idle; medians count. Tables first, one line of JSON last.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from bench import machine
from bench.offline import GAP, Audience, perform
from bench.baselines import Audiocraft, Rival, Transformers
from bench.small import SMALL, write_small
from bench.table import Record, Table
from musicgen_engine.model.transformer import ROWS, Piece
from musicgen_engine.core.engine import PIECE, Engine
from musicgen_engine.core.loaded_model import Model
from musicgen_engine.core.scheduler import Scheduler, Task
from musicgen_engine.config import Placement
from protocol.request import FRAME_RATE, SAMPLES_PER_FRAME, Song
from training.structure import CODEBOOKS

PROMPT = "a calm piano melody over slow strings, warm and nostalgic"
FLOAT = 4  # bytes
# Numbers that a step reads.
MATRICES = SMALL.layers * 14 * SMALL.dim**2 + CODEBOOKS * SMALL.codes * SMALL.dim
COLUMN = SMALL.layers * 2 * ROWS * SMALL.dim  # keys and values of a song's column, in numbers


class Ours:
    """Decoder and sampler, with a song in each of the first slots: all that a step is."""

    def __init__(self, model: Model, songs: int, columns: int) -> None:
        self._model = model
        text = model.describe(PROMPT)
        for slot in range(songs):
            model.sampler.put(slot, Song(PROMPT, frames=columns, seed=slot))
            model.decoder.condition(slot, text)
            for start in range(0, columns, PIECE):
                model.decoder.step([self._piece(slot, start, PIECE)])

    def step(self, position: int, songs: int) -> None:
        logits = self._model.decoder.step([self._piece(i, position, 1) for i in range(songs)])
        frames = torch.full((songs, CODEBOOKS), position)
        self._model.sampler.draw(logits, range(songs), frames).cpu()

    def _piece(self, slot: int, start: int, count: int) -> Piece:
        tokens = np.random.default_rng(start).integers(SMALL.codes, size=(CODEBOOKS, count))
        return Piece(slot, start, tokens)


class Race:
    """Between the steps of a rival: takes one of ours, and the seconds of both."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step
        self._left: float | None = None  # none before the prefill has ended, which does not count
        self.theirs: list[float] = []
        self.ours: list[float] = []

    def __call__(self) -> None:
        entered = time.perf_counter()
        if self._left is not None:
            self.theirs.append(entered - self._left)
        self.ours.append(seconds(self._step))
        self._left = time.perf_counter()


def steps(model: Model, folder: Path, machine: Record, quick: bool) -> dict[str, list[Record]]:
    positions, crowds, count = ((100,), (1, 4), 6) if quick else ((100, 750), (1, 4, 8), 12)
    ours = Ours(model, max(crowds), max(positions) + 1)
    results = {}
    rivals: dict[str, Callable[[], Rival]] = {
        "audiocraft": lambda: Audiocraft(folder, PROMPT),
        "transformers": Transformers,
    }
    for name, load in rivals.items():
        rival = load()
        table = Table(f"Steps a second: {name}, by its own generate; ours; what the machine allows")
        for position, songs in itertools.product(positions, crowds):
            race = Race(partial(ours.step, position, songs))
            rival.generate(songs, position - count // 2, count, race)
            theirs, mine = median(race.theirs), median(race.ours)
            reading = FLOAT * (MATRICES + songs * position * COLUMN) / machine["GB/s"] / 1e9
            multiplying = 2 * ROWS * songs * MATRICES / machine["GFLOP/s"] / 1e9
            table.add(
                {
                    "position": position,
                    "songs": songs,
                    name: round(1 / theirs, 2),
                    "ours": round(1 / mine, 2),
                    "ratio": round(theirs / mine, 2),
                    "reading": round(1 / reading, 1),
                    "multiplying": round(1 / multiplying, 1),
                }
            )
        results[name] = table.rows
    return results


def engine(model: Model, quick: bool) -> list[Record]:
    table = Table(f"The whole engine, a song every {GAP} s: seconds of audio a second, and waits")
    duration, crowds = (1, (1, 2, 4)) if quick else (5, (1, 2, 4, 8, 16))
    codec = codec_seconds(model)
    for count in crowds:
        songs = [Song(PROMPT, duration * FRAME_RATE, seed) for seed in range(count)]
        audience = perform(model, songs)
        waits = audience.waits()
        row = {
            "songs": count,
            "audio": round(count * duration / audience.took(), 2),
            "first song's first audio": round(waits[0], 2),
            "median": round(median(waits), 2),
            "longest": round(max(waits), 2),
            "codec's share": round(count * duration * codec / audience.took(), 3),
        }
        table.add(row)
    return table.rows


def beside(model: Model, quick: bool) -> list[Record]:
    """What those who play notice of a song that goes on from far: its prompt and codec's past."""
    table = Table("A round, in ms: ordinary; while another song is brought where it goes on")
    codes = np.random.default_rng(0).integers(SMALL.codes, size=(CODEBOOKS, 1400), dtype=np.int32)
    far = Song(PROMPT, frames=1500, seed=0, codes=codes, start=1400 * SAMPLES_PER_FRAME)
    for count in (1,) if quick else (1, 4, 8):
        scheduler = Scheduler(max_queue=count)
        engine = Engine(model, scheduler, Audience())
        for id in range(count):
            scheduler.submit(Task(id, Song(PROMPT, frames=500, seed=id)))
            engine.round()
        ordinary = median(seconds(engine.round) for _ in range(15))
        scheduler.submit(Task(count, far))
        admission = seconds(engine.round)
        more = median(seconds(engine.round) for _ in range(15))
        times = {"ordinary": ordinary, "with text": admission, "with prompt": more}
        row = {name: round(1000 * time) for name, time in times.items()}
        table.add({"songs": count} | row | {"ratio": round(more / ordinary, 2)})
    return table.rows


def codec_seconds(model: Model) -> float:
    """What a second of audio takes, decoded second by second."""
    stream = model.codec.stream()
    codes = np.random.default_rng(0).integers(
        SMALL.codes, size=(CODEBOOKS, FRAME_RATE), dtype=np.int32
    )
    stream.push(codes, last=False)
    return median(seconds(lambda: stream.push(codes, last=False)) for _ in range(5))


def parity(model: Model, folder: Path, quick: bool) -> Record:
    """A greedy song in the company of two others, against audiocraft's."""
    table = Table("A greedy song's codes against audiocraft's")
    frames = (1 if quick else 10) * FRAME_RATE
    songs = [Song(PROMPT, frames, seed=0, temperature=0.0)]
    songs += [Song("loud drums", frames // 2, seed) for seed in (1, 2)]
    ours, theirs = perform(model, songs).codes(0), Audiocraft(folder, PROMPT).greedy(frames)
    different = int((ours != theirs).sum())
    table.add({"codes": theirs.size, "kinds": len(np.unique(theirs)), "different": different})
    return table.rows[0]


def limits(threads: int) -> Record:
    """What this machine reads and multiplies at most."""
    table = Table("This machine")
    data, matrix = torch.ones(2**28), torch.ones(2048, 2048)
    reading = data.numel() * FLOAT / min(seconds(data.sum) for _ in range(5))
    multiplying = 2 * 2048**3 / min(seconds(lambda: matrix @ matrix) for _ in range(5))
    rates = {"GB/s": round(reading / 1e9, 1), "GFLOP/s": round(multiplying / 1e9)}
    table.add({"threads": threads} | rates)
    return table.rows[0]


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, help="where the checkpoint is, or is to stay")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", choices=("steps", "engine", "beside", "parity"))
    parser.add_argument("--quick", action="store_true", help="less of each, and less exactly")
    arguments = parser.parse_args()
    only, quick = arguments.only, arguments.quick
    torch.set_num_threads(arguments.threads)
    results: Record = {
        "bench": "decode",
        "hardware": f"{machine.name()}, torch {torch.__version__}",
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        write_small(folder)
        results["machine"] = limits(arguments.threads)
        model = Model.load(folder, Placement(device="cpu", memory=0.7))
        if only in (None, "steps"):
            results["steps"] = steps(model, folder, results["machine"], quick)
        if only in (None, "engine"):
            results["engine"] = engine(model, quick)
        if only in (None, "beside"):
            results["beside"] = beside(model, quick)
        if only in (None, "parity"):
            results["parity"] = parity(model, folder, quick)
    print("\n" + json.dumps(results))


if __name__ == "__main__":
    main()
